"""Who did what when, by the name that scripts of users import it by."""

from fhi_al.analysis.accounting import Command, RoleUse, Span, account, commands, shares

__all__ = ["Command", "RoleUse", "Span", "account", "commands", "shares"]
