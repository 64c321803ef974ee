"""Reference methods: what an electronic-structure code says about a structure."""
