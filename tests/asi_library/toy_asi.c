/* A small library with the ASI interface, strict like a real electronic-structure code.
 *
 * It reads control.in and geometry.in on rank 0 of the communicator it is given, splits the work
 * over the ranks, and aborts where a real code would: unknown keywords or species, another number
 * of atoms than at initialisation, geometries that differ between ranks.
 *
 * The energy is a toy, but smooth, bonded and many-body, for H, C, N, O and Si:
 *
 *   E = sum_i e_i + sum_{i<j} [ M_ij(r) f_ij(r) + S_ij(r) ] + sum_i K (n_i - v_i)^2 + spin + charge
 *
 * with a Morse bond M, a switch f from 1 to 0 between bonded and non-bonded distances, a soft
 * non-bonded term S, the coordination n_i = sum_j f_ij and the valence v_i. Bonds hold at some
 * hundred K. Periodic images are included; forces and stress are analytic. Everything inside is in
 * Hartree and Bohr, as in ASI.
 *
 * Keywords of its own in control.in:
 *   toy_unconverged_below X   the SCF fails where two atoms are closer than X (in angstrom),
 *                             unless charge_mix_param is at most 0.02
 *   toy_abort_below X         the process aborts where two atoms are closer than X
 *   toy_sleep_s X             every run takes X seconds longer
 *   toy_call_log PATH         append a line to PATH at the start of every run
 *
 * Build: mpicc -shared -fPIC -O2 -o libtoy_asi.so toy_asi.c -lm
 */
#include <math.h>
#include <mpi.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BOHR 0.529177210903 /* angstrom */
#define HARTREE 27.211386245988 /* eV */
#define LINE 1024

typedef struct {
    const char *symbol;
    int number;
    double energy;  /* eV, isolated atom in its ground state */
    double radius;  /* angstrom */
    double valence; /* bonds that it likes to have */
    double moment;  /* Bohr magnetons, isolated atom in its ground state */
} Element;

static const Element ELEMENTS[] = {
    {"H", 1, -13.6, 0.31, 1, 1}, {"C", 6, -1027.0, 0.76, 4, 2},   {"N", 7, -1484.0, 0.71, 3, 3},
    {"O", 8, -2040.0, 0.66, 2, 2}, {"Si", 14, -7870.0, 1.17, 4, 2},
};
static const int N_ELEMENTS = sizeof ELEMENTS / sizeof ELEMENTS[0];

static const double BOND_EV = 4.0, BOND_WIDTH = 2.0 /* 1/angstrom */;
static const double SWITCH_FROM = 1.25, SWITCH_TO = 1.55 /* bond lengths */;
static const double SOFT_EV = 0.6, SOFT_RANGE = 4.5 /* angstrom */;
static const double HH_EV = 0.15, HH_LENGTH = 1.55, HH_WIDTH = 1.5;
static const double VALENCE_EV = 1.0, SPIN_EV = 0.5, CHARGE_EV = 3.0;

static const char *KEYWORDS[] = {
    "xc", "relativistic", "k_grid", "k_offset", "occupation_type", "mixer",
    "n_max_pulay", "sc_iter_limit", "sc_accuracy_rho", "sc_accuracy_eev", "sc_accuracy_etot",
    "sc_accuracy_forces", "sc_accuracy_stress", "many_body_dispersion", "vdw_correction_hirshfeld",
    "many_body_dispersion_nl", "default_initial_moment", "override_illconditioning", "KS_method",
    "density_update_method", "basis_threshold", "output_level", "hybrid_xc_coeff", "hse_unit",
    "RI_method", "use_dipole_correction", "empty_states", "sc_init_iter", "final_forces_cleaned",
};
static const char *SPECIES_KEYWORDS[] = {
    "nucleus", "mass", "l_hartree", "cut_pot", "basis_dep_cutoff", "basis_acc", "radial_base",
    "radial_multiplier", "angular_grids", "division", "outer_grid", "angular_min", "angular_acc",
    "innermost_max", "valence", "ion_occ", "hydro", "ionic", "for_aux", "confined", "gaussian",
    "pure_gauss", "include_min_basis", "prodbas_acc", "max_n_prodbas", "max_l_prodbas", "cite_reference",
};

/* What the input files say; plain data, sent from rank 0 to all. */
typedef struct {
    int n_atoms, periodic, want_forces, want_stress, collinear, has_moment, fixed_moment, has_default;
    double lattice[9], charge, moment, initial_moment, unconverged_below, abort_below, sleep_s, mixing;
    char call_log[LINE];
} Input;

static MPI_Comm comm = MPI_COMM_NULL;
static int rank, n_ranks;
static FILE *log_file;
static Input input;
static int *species;
static double *positions, *forces, *charges;
static double energy, stress[9];
static bool converged, finished, charges_asked;
static int n_runs;

static void stop(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "*** toy_asi: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    fflush(stderr);
    MPI_Abort(comm == MPI_COMM_NULL ? MPI_COMM_WORLD : comm, 1);
    exit(1);
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    if (!memory)
        stop("out of memory");
    return memory;
}

/* --- input files ---------------------------------------------------------------------------- */

static int element_index(const char *symbol)
{
    for (int k = 0; k < N_ELEMENTS; k++)
        if (!strcmp(ELEMENTS[k].symbol, symbol))
            return k;
    return -1;
}

static bool listed(const char *word, const char **list, size_t count)
{
    for (size_t k = 0; k < count; k++)
        if (!strcmp(word, list[k]))
            return true;
    return false;
}

static double number(const char *text, const char *keyword)
{
    char *end;
    double value = text ? strtod(text, &end) : 0;
    if (!text || *end || end == text)
        stop("%s: expected a number, got %s", keyword, text ? text : "nothing");
    return value;
}

static bool is_true(const char *text, const char *keyword)
{
    if (text && (!strcmp(text, ".true.") || !strcmp(text, ".True.")))
        return true;
    if (text && (!strcmp(text, ".false.") || !strcmp(text, ".False.")))
        return false;
    stop("%s: expected .true. or .false., got %s", keyword, text ? text : "nothing");
    return false;
}

static FILE *open_input(const char *name)
{
    FILE *file = fopen(name, "r");
    if (!file)
        stop("can't open %s", name);
    return file;
}

/* Split the next line that holds something into words; false at the end of the file. */
static bool next_line(FILE *file, char *line, char *words[], int n_words)
{
    while (fgets(line, LINE, file)) {
        line[strcspn(line, "#")] = 0;
        int found = 0;
        for (int k = 0; k < n_words; k++)
            words[k] = NULL;
        for (char *word = strtok(line, " \t\r\n"); word && found < n_words;
             word = strtok(NULL, " \t\r\n"))
            words[found++] = word;
        if (found)
            return true;
    }
    return false;
}

static void read_control(bool known[])
{
    char line[LINE], *words[4];
    int block = -1; /* the species whose block we are in */
    FILE *file = open_input("control.in");
    while (next_line(file, line, words, 4)) {
        const char *key = words[0], *value = words[1];
        if (!strcmp(key, "species")) {
            block = value ? element_index(value) : -1;
            if (block < 0)
                stop("control.in: no parameters for species %s", value ? value : "");
            if (known[block])
                stop("control.in: two blocks for species %s", value);
            known[block] = true;
        } else if (block >= 0 && listed(key, SPECIES_KEYWORDS, sizeof SPECIES_KEYWORDS / sizeof *SPECIES_KEYWORDS)) {
            if (!strcmp(key, "nucleus") && number(value, key) != ELEMENTS[block].number)
                stop("control.in: nucleus %s does not belong to %s", value, ELEMENTS[block].symbol);
        } else if (!strcmp(key, "compute_forces")) {
            input.want_forces = is_true(value, key);
        } else if (!strcmp(key, "compute_analytical_stress")) {
            input.want_stress = is_true(value, key);
        } else if (!strcmp(key, "postprocess_anyway")) {
            is_true(value, key);
        } else if (!strcmp(key, "charge")) {
            input.charge = number(value, key);
        } else if (!strcmp(key, "spin")) {
            if (!value || (strcmp(value, "none") && strcmp(value, "collinear")))
                stop("control.in: spin is none or collinear");
            input.collinear = !strcmp(value, "collinear");
        } else if (!strcmp(key, "fixed_spin_moment")) {
            input.moment = number(value, key);
            input.fixed_moment = 1;
        } else if (!strcmp(key, "charge_mix_param")) {
            input.mixing = number(value, key);
        } else if (!strcmp(key, "toy_unconverged_below")) {
            input.unconverged_below = number(value, key) / BOHR;
        } else if (!strcmp(key, "toy_abort_below")) {
            input.abort_below = number(value, key) / BOHR;
        } else if (!strcmp(key, "toy_sleep_s")) {
            input.sleep_s = number(value, key);
        } else if (!strcmp(key, "toy_call_log")) {
            if (!value)
                stop("control.in: toy_call_log needs a path");
            snprintf(input.call_log, LINE, "%s", value);
        } else if (listed(key, KEYWORDS, sizeof KEYWORDS / sizeof *KEYWORDS)) {
            input.has_default |= !strcmp(key, "default_initial_moment");
        } else {
            stop("control.in: unknown keyword %s", key);
        }
    }
    fclose(file);
}

static void read_geometry(const bool known[])
{
    char line[LINE], *words[5];
    int n_vectors = 0, capacity = 0;
    bool fractional = false;
    FILE *file = open_input("geometry.in");
    while (next_line(file, line, words, 5)) {
        const char *key = words[0];
        if (!strcmp(key, "atom") || !strcmp(key, "atom_frac")) {
            if (input.n_atoms == capacity) {
                capacity = 2 * capacity + 16;
                species = realloc(species, capacity * sizeof *species);
                positions = realloc(positions, 3 * capacity * sizeof *positions);
                if (!species || !positions)
                    stop("out of memory");
            }
            int k = words[4] ? element_index(words[4]) : -1;
            if (k < 0 || !known[k])
                stop("geometry.in: no species block for %s", words[4] ? words[4] : "");
            species[input.n_atoms] = k;
            fractional |= !strcmp(key, "atom_frac");
            for (int x = 0; x < 3; x++)
                positions[3 * input.n_atoms + x] = number(words[1 + x], key) / BOHR;
            input.n_atoms++;
        } else if (!strcmp(key, "lattice_vector")) {
            if (n_vectors == 3)
                stop("geometry.in: more than three lattice vectors");
            for (int x = 0; x < 3; x++)
                input.lattice[3 * n_vectors + x] = number(words[1 + x], key) / BOHR;
            n_vectors++;
        } else if (!strcmp(key, "initial_moment")) {
            input.initial_moment += number(words[1], key);
            input.has_moment = 1;
        } else if (!strcmp(key, "initial_charge")) {
            number(words[1], key);
        } else if (strcmp(key, "constrain_relaxation")) {
            stop("geometry.in: unknown keyword %s", key);
        }
    }
    fclose(file);
    if (!input.n_atoms)
        stop("geometry.in: no atoms");
    if (fractional)
        stop("geometry.in: atom_frac is not for this library");
    if (n_vectors != 0 && n_vectors != 3)
        stop("geometry.in: %d lattice vectors", n_vectors);
    input.periodic = n_vectors == 3;
}

static void check_input(void)
{
    if (input.want_stress && !input.periodic)
        stop("control.in: compute_analytical_stress for a molecule");
    if (input.fixed_moment && !input.collinear)
        stop("control.in: fixed_spin_moment needs spin collinear");
    if (input.has_moment && !input.collinear)
        stop("geometry.in: initial_moment needs spin collinear in control.in");
    if (input.collinear && !input.has_moment && !input.has_default)
        stop("spin collinear needs initial_moment in geometry.in, or default_initial_moment");
    if (!input.collinear)
        input.moment = 0;
    else if (!input.fixed_moment)
        input.moment = input.initial_moment;
}

/* --- energy, forces, stress ------------------------------------------------------------------ */

typedef struct {
    double value, slope;
} Function;

/* 1 below `from`, 0 beyond `to`, twice differentiable. */
static Function fade(double r, double from, double to)
{
    if (r <= from)
        return (Function){1, 0};
    if (r >= to)
        return (Function){0, 0};
    double x = (r - from) / (to - from);
    return (Function){1 - x * x * x * (10 - 15 * x + 6 * x * x),
                      -30 * x * x * (1 - x) * (1 - x) / (to - from)};
}

static Function morse(double r, double depth, double width, double length)
{
    double decay = exp(-width * (r - length));
    return (Function){depth * (decay * decay - 2 * decay),
                      2 * depth * width * (decay - decay * decay)};
}

static Function times(Function f, Function g)
{
    return (Function){f.value * g.value, f.slope * g.value + f.value * g.slope};
}

/* How much of a bond two atoms have at a distance in angstrom. */
static Function bond_order(int a, int b, double r)
{
    double length = ELEMENTS[a].radius + ELEMENTS[b].radius;
    if (ELEMENTS[a].number == 1 && ELEMENTS[b].number == 1)
        return (Function){0, 0};
    return fade(r, SWITCH_FROM * length, SWITCH_TO * length);
}

/* Pair energy in eV at a distance in angstrom, and its derivative. */
static Function pair(int a, int b, double r)
{
    double length = ELEMENTS[a].radius + ELEMENTS[b].radius;
    Function range = fade(r, 0.5 * SOFT_RANGE, SOFT_RANGE);
    if (ELEMENTS[a].number == 1 && ELEMENTS[b].number == 1)
        return times(morse(r, HH_EV, HH_WIDTH, HH_LENGTH), range);
    Function bond = times(morse(r, BOND_EV, BOND_WIDTH, length), bond_order(a, b, r));
    double decay = exp(-r);
    Function soft = times((Function){4 * SOFT_EV * decay, -4 * SOFT_EV * decay}, range);
    return (Function){bond.value + soft.value, bond.slope + soft.slope};
}

/* Periodic images along each lattice vector that a sphere of SOFT_RANGE can reach. */
static void count_images(int images[3])
{
    const double *a = input.lattice;
    images[0] = images[1] = images[2] = 0;
    if (!input.periodic)
        return;
    double volume = 0;
    for (int k = 0; k < 3; k++) {
        const double *u = a + 3 * ((k + 1) % 3), *v = a + 3 * ((k + 2) % 3);
        double normal[3] = {u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2],
                            u[0] * v[1] - u[1] * v[0]};
        volume = fabs(a[3 * k] * normal[0] + a[3 * k + 1] * normal[1] + a[3 * k + 2] * normal[2]);
        double area = sqrt(normal[0] * normal[0] + normal[1] * normal[1] + normal[2] * normal[2]);
        double height = volume / area;
        /* Atoms may lie outside the cell by as much as the molecular dynamics carries them. */
        double spread = 0;
        for (int i = 0; i < input.n_atoms; i++)
            for (int j = 0; j < i; j++) {
                double along = 0;
                for (int x = 0; x < 3; x++)
                    along += (positions[3 * i + x] - positions[3 * j + x]) * normal[x] / area;
                spread = fmax(spread, fabs(along));
            }
        images[k] = (int)ceil((SOFT_RANGE / BOHR + spread) / height);
    }
    if (volume < 1e-3)
        stop("the lattice vectors span no volume");
}

typedef struct {
    int i, j;
    double r, d[3]; /* angstrom; from i to the image of j */
} Pair;

/* This rank's share of the pairs within SOFT_RANGE, each pair and its mirror image once. */
static Pair *find_pairs(int *count, double *shortest)
{
    int images[3], capacity = 0;
    Pair *pairs = NULL;
    *count = 0;
    *shortest = 1e30;
    count_images(images);
    for (int i = rank; i < input.n_atoms; i += n_ranks)
        for (int j = 0; j < input.n_atoms; j++)
            for (int a = -images[0]; a <= images[0]; a++)
                for (int b = -images[1]; b <= images[1]; b++)
                    for (int c = -images[2]; c <= images[2]; c++) {
                        Pair p = {i, j, 0, {0, 0, 0}};
                        for (int x = 0; x < 3; x++)
                            p.d[x] = BOHR * (positions[3 * j + x] - positions[3 * i + x] +
                                             a * input.lattice[x] + b * input.lattice[3 + x] +
                                             c * input.lattice[6 + x]);
                        p.r = sqrt(p.d[0] * p.d[0] + p.d[1] * p.d[1] + p.d[2] * p.d[2]);
                        if ((i == j && !a && !b && !c) || p.r > SOFT_RANGE)
                            continue;
                        if (*count == capacity) {
                            capacity = 2 * capacity + 64;
                            pairs = realloc(pairs, capacity * sizeof *pairs);
                            if (!pairs)
                                stop("out of memory");
                        }
                        *shortest = fmin(*shortest, p.r);
                        pairs[(*count)++] = p;
                    }
    return pairs;
}

static void sum_over_ranks(double *values, int count)
{
    MPI_Allreduce(MPI_IN_PLACE, values, count, MPI_DOUBLE, MPI_SUM, comm);
}

static double volume_of(const double *a)
{
    return fabs(a[0] * (a[4] * a[8] - a[5] * a[7]) + a[1] * (a[5] * a[6] - a[3] * a[8]) +
                a[2] * (a[3] * a[7] - a[4] * a[6]));
}

static void compute(const Pair *pairs, int count)
{
    double *excess = allocate(input.n_atoms, sizeof *excess);
    for (int k = 0; k < count; k++) {
        const Pair *p = pairs + k;
        excess[p->i] += bond_order(species[p->i], species[p->j], p->r).value;
    }
    sum_over_ranks(excess, input.n_atoms);

    double sums[10] = {0}; /* energy, virial */
    memset(forces, 0, 3 * input.n_atoms * sizeof *forces);
    for (int i = 0; i < input.n_atoms; i++) {
        excess[i] -= input.n_atoms > 1 ? ELEMENTS[species[i]].valence : 0;
        if (rank == 0)
            sums[0] += ELEMENTS[species[i]].energy + VALENCE_EV * excess[i] * excess[i];
    }
    for (int k = 0; k < count; k++) {
        const Pair *p = pairs + k;
        Function f = pair(species[p->i], species[p->j], p->r);
        Function n = bond_order(species[p->i], species[p->j], p->r);
        /* Every pair is seen from both ends: half of the pair energy each. */
        double slope = 0.5 * f.slope + VALENCE_EV * (excess[p->i] + excess[p->j]) * n.slope;
        sums[0] += 0.5 * f.value;
        for (int x = 0; x < 3; x++) {
            double g = slope * p->d[x] / p->r;
            forces[3 * p->i + x] += g;
            forces[3 * p->j + x] -= g;
            for (int y = 0; y < 3; y++)
                sums[1 + 3 * x + y] += g * p->d[y];
        }
    }
    sum_over_ranks(sums, 10);
    sum_over_ranks(forces, 3 * input.n_atoms);

    double ground = input.n_atoms == 1 ? ELEMENTS[species[0]].moment : 0;
    sums[0] += SPIN_EV * (fabs(input.moment) - ground) * (fabs(input.moment) - ground);
    sums[0] += CHARGE_EV * input.charge * input.charge;
    energy = sums[0] / HARTREE;
    for (int k = 0; k < 3 * input.n_atoms; k++)
        forces[k] /= HARTREE / BOHR;
    for (int k = 0; k < 9 && input.periodic; k++)
        stress[k] = sums[1 + k] / HARTREE / volume_of(input.lattice);
    free(excess);
}

/* --- the ASI interface ----------------------------------------------------------------------- */

#ifndef TOY_FLAVOUR
#define TOY_FLAVOUR 1 /* reads its input like FHI-aims */
#endif

int ASI_flavour(void) { return TOY_FLAVOUR; }

void ASI_init(const char *inputpath, const char *outputfile, int fortran_comm)
{
    bool known[sizeof ELEMENTS / sizeof ELEMENTS[0]] = {false};
    int mpi_started;
    (void)inputpath;
    MPI_Initialized(&mpi_started);
    if (!mpi_started) {
        fprintf(stderr, "*** toy_asi: MPI is not initialised\n");
        exit(1);
    }
    if (comm != MPI_COMM_NULL)
        stop("ASI_init without ASI_finalize before");
    MPI_Comm_dup(MPI_Comm_f2c(fortran_comm), &comm);
    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &n_ranks);
    memset(&input, 0, sizeof input);
    input.mixing = 0.05;
    if (rank == 0) {
        log_file = fopen(outputfile, "w");
        if (!log_file)
            stop("can't write %s", outputfile);
        read_control(known);
        read_geometry(known);
        check_input();
        printf("toy_asi starts\n"); /* real codes talk too, and in their own buffer */
        fprintf(log_file, "toy_asi: %d atoms, %d ranks\n", input.n_atoms, n_ranks);
    }
    MPI_Bcast(&input, sizeof input, MPI_BYTE, 0, comm);
    if (rank) {
        species = allocate(input.n_atoms, sizeof *species);
        positions = allocate(3 * input.n_atoms, sizeof *positions);
    }
    MPI_Bcast(species, input.n_atoms, MPI_INT, 0, comm);
    MPI_Bcast(positions, 3 * input.n_atoms, MPI_DOUBLE, 0, comm);
    forces = allocate(3 * input.n_atoms, sizeof *forces);
    charges = allocate(input.n_atoms, sizeof *charges);
    energy = 0;
    converged = finished = false;
    n_runs = 0;
}

void ASI_set_atom_coords(const double *coords, int n_atoms)
{
    if (n_atoms != input.n_atoms)
        stop("%d atoms, but %d at ASI_init", n_atoms, input.n_atoms);
    memcpy(positions, coords, 3 * n_atoms * sizeof *positions);
    finished = false;
}

void ASI_set_geometry(const double *coords, int n_atoms, const double *lattice)
{
    if (!input.periodic)
        stop("ASI_set_geometry for a molecule");
    ASI_set_atom_coords(coords, n_atoms);
    memcpy(input.lattice, lattice, sizeof input.lattice);
}

/* All ranks must have the very same geometry. */
static void check_ranks(void)
{
    int count = 3 * input.n_atoms + 9;
    double *mine = allocate(count, sizeof *mine), *low = allocate(count, sizeof *low),
           *high = allocate(count, sizeof *high);
    memcpy(mine, positions, (count - 9) * sizeof *mine);
    memcpy(mine + count - 9, input.lattice, sizeof input.lattice);
    MPI_Allreduce(mine, low, count, MPI_DOUBLE, MPI_MIN, comm);
    MPI_Allreduce(mine, high, count, MPI_DOUBLE, MPI_MAX, comm);
    if (memcmp(low, high, count * sizeof *low))
        stop("the geometry is not the same on all ranks");
    free(mine);
    free(low);
    free(high);
}

static void log_call(void)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a of the positions */
    const unsigned char *bytes = (const unsigned char *)positions;
    for (size_t k = 0; k < 3 * input.n_atoms * sizeof *positions; k++)
        hash = (hash ^ bytes[k]) * 1099511628211u;
    FILE *file = fopen(input.call_log, "a");
    if (!file)
        stop("can't write %s", input.call_log);
    fprintf(file, "%d atoms %016llx\n", input.n_atoms, (unsigned long long)hash);
    fclose(file);
}

void ASI_run(void)
{
    int count;
    double shortest;
    if (comm == MPI_COMM_NULL)
        stop("ASI_run before ASI_init");
    check_ranks();
    if (rank == 0 && input.call_log[0])
        log_call();
    if (input.sleep_s > 0) {
        struct timespec wait = {(time_t)input.sleep_s, (long)(1e9 * fmod(input.sleep_s, 1))};
        nanosleep(&wait, NULL);
    }
    Pair *pairs = find_pairs(&count, &shortest);
    MPI_Allreduce(MPI_IN_PLACE, &shortest, 1, MPI_DOUBLE, MPI_MIN, comm);
    shortest /= BOHR;
    if (shortest < input.abort_below)
        stop("two atoms at %g angstrom", shortest * BOHR);
    compute(pairs, count);
    free(pairs);
    converged = shortest >= input.unconverged_below || input.mixing <= 0.02;
    if (!converged || charges_asked) /* numbers that nobody should use */
        energy += 1.0;
    finished = true;
    if (rank == 0) {
        fprintf(log_file, "run %d: E = %.12f Ha, converged: %d\n", ++n_runs, energy, converged);
        fflush(log_file);
    }
}

void ASI_finalize(void)
{
    if (comm == MPI_COMM_NULL)
        stop("ASI_finalize before ASI_init");
    if (log_file)
        fclose(log_file);
    log_file = NULL;
    free(species);
    free(positions);
    free(forces);
    free(charges);
    species = NULL;
    positions = forces = charges = NULL;
    MPI_Comm_free(&comm);
    comm = MPI_COMM_NULL;
}

int ASI_n_atoms(void) { return input.n_atoms; }

bool ASI_is_scf_converged(void) { return finished && converged; }

double ASI_energy(void) { return finished ? energy : 0; }

const double *ASI_forces(void) { return finished && input.want_forces ? forces : NULL; }

const double *ASI_stress(void) { return finished && input.want_stress ? stress : NULL; }

/* As seen with FHI-aims, a request for charges spoils the energies that follow. */
const double *ASI_atomic_charges(int scheme)
{
    (void)scheme;
    charges_asked = true;
    return charges;
}

/* The rest of the interface, for matrices and potentials that this library has none of. */
typedef void (*Callback)(void);

#define NO_CALLBACK(name)                                                                          \
    void name(Callback function, void *argument)                                                   \
    {                                                                                              \
        (void)function;                                                                            \
        (void)argument;                                                                            \
    }
NO_CALLBACK(ASI_register_dm_callback)
NO_CALLBACK(ASI_register_overlap_callback)
NO_CALLBACK(ASI_register_hamiltonian_callback)
NO_CALLBACK(ASI_register_external_potential)

void ASI_calc_esp(int n, const double *coords, double *potential, double *gradient)
{
    (void)n, (void)coords, (void)potential, (void)gradient;
    stop("ASI_calc_esp is not there");
}

int ASI_get_basis_size(void) { return 0; }

int ASI_get_nspin(void) { return 1 + input.collinear; }

int ASI_get_nkpts(void) { return 1; }

int ASI_get_n_local_ks(void) { return 0; }

int ASI_get_local_ks(int *pairs)
{
    (void)pairs;
    return 0;
}

bool ASI_is_hamiltonian_real(void) { return true; }
