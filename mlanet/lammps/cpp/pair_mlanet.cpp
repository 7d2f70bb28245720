#include "pair_mlanet.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <unordered_map>

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "elements.hpp"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"

using namespace LAMMPS_NS;
using mlanet::SYMBOLS;

static constexpr double NEAREST = 0.1;  // Å; nearer, structures have no meaning, as in the whole package

PairMLANet::PairMLANet(LAMMPS* lmp) : Pair(lmp) {
    one_coeff = 1, manybody_flag = 1, single_enable = 0, restartinfo = 0, unit_convert_flag = 0;
    no_virial_fdotr_compute = 1;             // the engine's virial is exact, and needs no positions of ghosts
    centroidstressflag = CENTROID_NOTAVAIL;  // shares of atoms are those of the pairs around them, nothing finer
    comm_forward = comm_reverse = LEAST;
    nextra = 3, pvector = new double[3]();  // atoms elsewhere with ghosts here, bytes sent, and the grade of the last look
}

PairMLANet::~PairMLANet() {
    if (copymode) return;
    delete[] pvector;
    if (allocated) memory->destroy(setflag), memory->destroy(cutsq);
}

void PairMLANet::settings(int argc, char** argv) {
    const mlanet::Precision before = precision_;
    precision_ = mlanet::Precision::stored, threads_ = 1, watch_ = mlanet::Watch();
    for (int k = 0; k < argc; ++k) {
        const std::string word = argv[k];
        if (word == "float32") precision_ = mlanet::Precision::float32;
        else if (word == "float64") precision_ = mlanet::Precision::float64;
        else if (word == "threads" && k + 1 < argc) threads_ = utils::inumeric(FLERR, argv[++k], false, lmp);
        else if (word == "limits") k = limits(argc, argv, k);
        else error->all(FLERR, "pair_style mlanet: '{}' is not known; use float32 or float64, threads N, and limits warn, stop or off", word);
    }
    if (threads_ < 1 || threads_ > 1024) error->all(FLERR, "pair_style mlanet: threads must be 1 to 1024");
    if (precision_ != before) engine_.reset();  // LAMMPS keeps the style, and its pair_coeff, where only words change
    if (engine_) engine_->use_threads(threads_);
}

// limits warn | stop | off [every N], from word `at` on; the last of these words.
int PairMLANet::limits(int argc, char** argv, int at) {
    static const char* const WAYS[] = {"off", "warn", "stop"};
    const char* way = at + 1 < argc ? argv[at + 1] : "nothing";
    const auto found = std::find_if(WAYS, WAYS + 3, [&](const char* one) { return !std::strcmp(one, way); });
    if (found == WAYS + 3) error->all(FLERR, "pair_style mlanet: limits are followed by warn, stop or off, not by {}", way);
    watch_.way = mlanet::Watch::Way(mlanet::Watch::off + int(found - WAYS));
    if (at + 2 >= argc || std::strcmp(argv[at + 2], "every")) return at + 1;
    if (at + 3 >= argc) error->all(FLERR, "pair_style mlanet: limits {} every how many steps?", way);
    watch_.every = utils::inumeric(FLERR, argv[at + 3], false, lmp);
    if (watch_.every < 1) error->all(FLERR, "pair_style mlanet: limits {} every N: N must be positive", way);
    return at + 3;
}

// Where a model may lie: as given, with .mlanet behind it, and beside this plugin.
static std::vector<std::string> places_of(const std::string& name) {
    std::vector<std::string> places = {name, name + ".mlanet"};
    Dl_info info;
    if (name.find('/') == std::string::npos && dladdr(reinterpret_cast<void*>(&places_of), &info) && info.dli_fname) {
        const std::string plugin = info.dli_fname;
        const size_t end = plugin.rfind('/');
        const std::string folder = end == std::string::npos ? "" : plugin.substr(0, end + 1);
        places.push_back(folder + name), places.push_back(folder + name + ".mlanet");
    }
    return places;
}

// The file's bytes, read by one rank for all.
std::vector<char> PairMLANet::read_model(const std::string& name) const {
    std::vector<char> bytes;
    bigint size = -1;
    if (comm->me == 0) {
        for (const std::string& place : places_of(name)) {
            FILE* file = std::fopen(place.c_str(), "rb");
            if (!file) continue;
            size = 0;
            char block[1 << 16];
            for (size_t n; (n = std::fread(block, 1, sizeof block, file)) > 0;) bytes.insert(bytes.end(), block, block + n);
            if (std::ferror(file)) size = -1;  // a folder, or a disk that fails
            else size = bigint(bytes.size());
            std::fclose(file);
            if (size >= 0) break;
        }
    }
    MPI_Bcast(&size, 1, MPI_LMP_BIGINT, 0, world);
    if (size < 0)
        error->all(FLERR, "pair_coeff: no model file '{}' (nor {}.mlanet, nor beside the plugin); mlanet export native makes one", name, name);
    if (size > MAXSMALLINT) error->all(FLERR, "pair_coeff: {} is too large for a model", name);
    bytes.resize(size);
    MPI_Bcast(bytes.data(), int(size), MPI_CHAR, 0, world);
    return bytes;
}

void PairMLANet::refuse_elements(const std::string& name) const {
    std::string known;
    for (int z : engine_->species()) known += std::string(" ") + SYMBOLS[z];
    error->all(FLERR, "pair_coeff: '{}' is no element that the model knows; it knows:{}; NULL for types of other styles", name, known);
    std::abort();  // not reached: error->all does not return
}

void PairMLANet::coeff(int argc, char** argv) {
    const int types = atom->ntypes;
    if (argc != 3 + types)
        error->all(FLERR, "pair_coeff * * MODEL and one element for each of the {} atom types; got {} word(s) after * *", types, argc - 2);
    if (std::strcmp(update->unit_style, "metal"))
        error->all(FLERR, "pair_style mlanet answers in eV and Å: write `units metal` first, instead of units {}", update->unit_style);
    if (!allocated) {
        allocated = 1;
        memory->create(setflag, types + 1, types + 1, "pair:setflag");
        memory->create(cutsq, types + 1, types + 1, "pair:cutsq");
        map = new int[types + 1];
    }
    const std::vector<char> bytes = read_model(argv[2]);
    try {
        engine_ = mlanet::Engine::read(bytes.data(), bytes.size(), precision_);
        engine_->use_threads(threads_);
    } catch (const mlanet::Error& problem) {
        error->all(FLERR, "pair_coeff: {}: {}; mlanet export native makes model files", argv[2], problem.what());
    }
    model_ = argv[2];
    require_limits();
    cutoff_ = engine_->cutoff();
    map_element2type(types, argv + 3);
    species_.assign(types + 1, -1);
    const std::vector<int>& known = engine_->species();
    for (int type = 1; type <= types; ++type) {
        if (map[type] < 0) continue;
        const auto found = std::find(known.begin(), known.end(), mlanet::number_of(elements[map[type]]));
        if (found == known.end()) refuse_elements(elements[map[type]]);
        species_[type] = int(found - known.begin());
    }
    const size_t number = engine_->precision() == mlanet::Precision::float32 ? sizeof(float) : sizeof(double);
    comm_forward = comm_reverse = std::max<int>(LEAST, int((engine_->largest_width() * number + 7) / 8));
}

// Where limits were asked for, by the words of this pair_style or of one after pair_coeff.
void PairMLANet::require_limits() const {
    if (engine_ && watch_.way >= mlanet::Watch::warn && !engine_->knows(mlanet::Limit::distance))
        error->all(FLERR, "pair_style mlanet limits: {} does not know its limits; mlanet calibrate measures them, mlanet export native writes the file anew", model_);
}

void PairMLANet::init_style() {
    require_limits();
    if (!force->newton_pair) error->all(FLERR, "pair_style mlanet needs `newton on`, so that forces on ghosts reach their atoms");
    if (domain->dimension == 2) error->all(FLERR, "pair_style mlanet is of three dimensions: write `dimension 3`");
    if (atom->molecular != Atom::ATOMIC)
        for (int k = 1; k <= 3; ++k)
            if (force->special_lj[k] == 0 && force->special_coul[k] == 0)
                error->all(FLERR, "pair_style mlanet sees all neighbours, bonded ones too: write `special_bonds lj/coul 1 1 1`");
    neighbor->add_request(this, NeighConst::REQ_FULL);
}

double PairMLANet::init_one(int, int) {
    if (!engine_) error->all(FLERR, "pair_style mlanet has no model: write pair_coeff * * MODEL ELEMENTS");
    return cutoff_;
}

// Which atom every ghost is an image of.
void PairMLANet::ask_owners() {
    const int local = atom->nlocal, all = local + atom->nghost;
    owner_.resize(2 * all + 2), place_.resize(all), first_.assign(all, 1);
    for (int i = 0; i < all; ++i) place_[i] = i, owner_[2 * i] = comm->me, owner_[2 * i + 1] = i;
    alone_ = false;
    pass(owner_.data(), 2, sizeof(double), true);
}

// Places of the atoms that the model sees: local ones, then those elsewhere that have ghosts here. Ghosts come in the
// order of LAMMPS' swaps, and go back in the opposite one; so the first ghost of an atom gets its row before any other
// passes it on, and gives it back after all of them have.
void PairMLANet::place_atoms() {
    ask_owners();
    const int local = atom->nlocal, all = local + atom->nghost;
    kind_.clear(), first_.assign(all, 0);
    std::unordered_map<uint64_t, int32_t> elsewhere;
    for (int i = 0; i < all; ++i) {
        if (i == local) n_local_ = int64_t(kind_.size());
        place_[i] = -1;
        if (species_[atom->type[i]] < 0) continue;
        const int rank = int(owner_[2 * i]), index = int(owner_[2 * i + 1]);
        const int32_t next = int32_t(kind_.size());
        if (i < local) place_[i] = next;
        else if (rank == comm->me) place_[i] = place_[index];
        else place_[i] = elsewhere.emplace(uint64_t(rank) << 32 | uint32_t(index), next).first->second;
        if (place_[i] == next) kind_.push_back(species_[atom->type[i]]), first_[i] = 1;
    }
    n_total_ = int64_t(kind_.size());
    if (all == local) n_local_ = n_total_;
    int ghosts = n_total_ > n_local_, any = 0;
    MPI_Allreduce(&ghosts, &any, 1, MPI_INT, MPI_MAX, world);
    alone_ = !any;
}

// Pairs within the model's own cutoff, without LAMMPS' skin.
void PairMLANet::find_pairs() {
    start_.assign(n_local_ + 1, 0), neighbor_.clear(), vectors_.clear();
    std::vector<int> row(n_local_, -1);
    for (int k = 0; k < list->inum; ++k)
        if (place_[list->ilist[k]] >= 0) row[place_[list->ilist[k]]] = list->ilist[k];
    for (int64_t place = 0; place < n_local_; ++place) {
        const int i = row[place], count = i < 0 ? 0 : list->numneigh[i];
        const double* here = i < 0 ? nullptr : atom->x[i];
        for (int k = 0; k < count; ++k) {
            const int j = list->firstneigh[i][k] & NEIGHMASK;
            const double* there = atom->x[j];
            const double v[3] = {there[0] - here[0], there[1] - here[1], there[2] - here[2]};
            const double squared = v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
            if (place_[j] < 0 || squared >= cutoff_ * cutoff_) continue;
            if (squared < NEAREST * NEAREST)
                error->one(FLERR, "step {}: atoms {} and {} overlap: {:.3g} Å apart; look at the start, take a shorter time step",
                           update->ntimestep, atom->tag[i], atom->tag[j], std::sqrt(squared));
            neighbor_.push_back(place_[j]), vectors_.insert(vectors_.end(), v, v + 3);
        }
        start_[place + 1] = int64_t(neighbor_.size());
    }
}

void PairMLANet::compute(int eflag, int vflag) {
    ev_init(eflag, vflag);
    place_atoms();
    find_pairs();
    forces_.resize(3 * n_total_ + 1), energies_.resize(n_local_ + 1), virials_.resize(9 * n_local_ + 1);
    mlanet::Structure structure{n_local_, n_total_, kind_.data(), start_.data(), neighbor_.data(), vectors_.data()};
    mlanet::Answer answer;
    answer.forces = forces_.data();
    if (eflag_atom) answer.atomic_energies = energies_.data();
    if (vflag_atom) answer.atomic_virials = virials_.data();
    looks_ = watch_.looks(update->ntimestep, *engine_);
    ask_limits(answer);
    pvector[0] = double(n_total_ - n_local_), pvector[1] = 0;
    try {
        Ranks ranks(this);
        engine_->compute(structure, &ranks, answer);
    } catch (const mlanet::Error& problem) {
        error->one(FLERR, "step {}: {}", update->ntimestep, problem.what());
    }
    if (!std::isfinite(answer.energy))
        error->one(FLERR, "step {}: the model gives no finite energy for this structure", update->ntimestep);
    add_answer(answer);
    keep_limits();
    if (looks_) look(structure);
}

void PairMLANet::add_answer(const mlanet::Answer& answer) {
    const int local = atom->nlocal, all = local + atom->nghost;
    for (int i = 0; i < all; ++i)
        if (place_[i] >= 0 && first_[i])
            for (int x = 0; x < 3; ++x) atom->f[i][x] += forces_[3 * place_[i] + x];
    static constexpr int ROW[] = {0, 1, 2, 0, 0, 1}, COLUMN[] = {0, 1, 2, 1, 2, 2};  // xx yy zz xy xz yz
    const auto share = [](const double* of, int k) { return -0.5 * (of[3 * ROW[k] + COLUMN[k]] + of[3 * COLUMN[k] + ROW[k]]); };
    if (eflag_global) eng_vdwl += answer.energy;
    if (vflag_global)
        for (int k = 0; k < 6; ++k) virial[k] += share(answer.virial, k);
    for (int i = 0; i < local && (eflag_atom || vflag_atom); ++i) {
        if (place_[i] < 0) continue;
        if (eflag_atom) eatom[i] += energies_[place_[i]];
        if (vflag_atom)
            for (int k = 0; k < 6; ++k) vatom[i][k] += share(virials_.data() + 9 * place_[i], k);
    }
}

void PairMLANet::ask_limits(mlanet::Answer& answer) {
    for (Known& one : known_) {
        if (!one.asked) continue;
        one.by_place.resize(n_local_ + 1);
        answer.*one.place = one.by_place.data();
    }
    if (looks_ && !answer.distances) distances_.resize(n_local_ + 1), answer.distances = distances_.data();
}

void PairMLANet::keep_limits() {
    for (Known& one : known_) {
        if (!one.asked) continue;
        one.all.assign(std::max(1, atom->nmax), 0.0);
        for (int i = 0; i < atom->nlocal; ++i)
            if (place_[i] >= 0) one.all[i] = one.by_place[place_[i]];
    }
}

void PairMLANet::look(const mlanet::Structure& structure) {
    const mlanet::Doubt found = engine_->doubt(structure, known_[0].asked ? known_[0].by_place.data() : distances_.data());
    const auto whom = std::find(place_.begin(), place_.begin() + atom->nlocal, int32_t(found.atom));
    watch_.look(lmp, *engine_, structure, found, found.grade ? atom->tag[whom - place_.begin()] : 0);
    pvector[2] = comm->me ? 0 : watch_.grade();
}

// Rows to or from other ranks, in parts no wider than what LAMMPS has made room for.
void PairMLANet::pass(void* rows, int64_t width, size_t number, bool forward) {
    if (alone_) return;
    const int64_t room = 8 * std::min(force->pair->comm_forward, force->pair->comm_reverse);
    rows_ = static_cast<char*>(rows), row_ = width * int64_t(number), double_ = number == sizeof(double);
    for (from_ = 0; from_ < row_; from_ += size_) {
        size_ = std::min(room, row_ - from_);
        if (forward) comm->forward_comm(this, int(slots()));
        else comm->reverse_comm(this, int(slots()));
    }
}

int PairMLANet::pack_forward_comm(int count, int* atoms, double* buffer, int, int*) {
    const int64_t step = slots();
    for (int k = 0; k < count; ++k)
        if (const int32_t place = place_[atoms[k]]; place >= 0) std::memcpy(buffer + k * step, rows_ + place * row_ + from_, size_);
    pvector[1] += double(count * step * 8);
    return int(count * step);
}

void PairMLANet::unpack_forward_comm(int count, int first, double* buffer) {
    for (int k = 0; k < count; ++k)
        if (first_[first + k]) std::memcpy(rows_ + place_[first + k] * row_ + from_, buffer + k * slots(), size_);
}

int PairMLANet::pack_reverse_comm(int count, int first, double* buffer) {
    const int64_t step = slots();
    for (int k = 0; k < count; ++k) {
        if (first_[first + k]) std::memcpy(buffer + k * step, rows_ + place_[first + k] * row_ + from_, size_);
        else std::fill_n(buffer + k * step, step, 0.0);
    }
    pvector[1] += double(count * step * 8);
    return int(count * step);
}

void PairMLANet::unpack_reverse_comm(int count, int* atoms, double* buffer) {
    for (int k = 0; k < count; ++k) {
        const int32_t place = place_[atoms[k]];
        if (place < 0) continue;
        char* to = rows_ + place * row_ + from_;
        const char* from = reinterpret_cast<const char*>(buffer + k * slots());
        double_ ? add<double>(to, from) : add<float>(to, from);
    }
}

template <class T> void PairMLANet::add(char* to, const char* from) const {
    T* sum = reinterpret_cast<T*>(to);
    for (int64_t k = 0; k < size_ / int64_t(sizeof(T)); ++k) {
        T one;
        std::memcpy(&one, from + k * sizeof(T), sizeof(T));
        sum[k] += one;
    }
}

double PairMLANet::memory_usage() {
    return Pair::memory_usage() + double(vectors_.capacity() + forces_.capacity() + virials_.capacity()) * sizeof(double) +
           double(neighbor_.capacity() + start_.capacity()) * sizeof(int64_t);
}

void* PairMLANet::extract(const char* name, int& dimension) {
    dimension = 0;
    for (Known& one : known_)
        if (name == one.name + "_flag") return &one.trigger;
    return std::strcmp(name, "cut_global") ? nullptr : &cutoff_;
}

void* PairMLANet::extract_peratom(const char* name, int& columns) {
    columns = 0;
    for (Known& one : known_) {
        if (name != one.name) continue;
        if (!engine_) error->all(FLERR, "pair_style mlanet has no model yet, of which {} could be said: write pair_coeff first", name);
        if (!engine_->knows(one.limit))
            error->all(FLERR, "{}: the model file does not say how large errors are; mlanet calibrate measures them, mlanet export native writes the file anew", name);
        one.asked = true;
        if (int(one.all.size()) < atom->nmax || one.all.empty()) one.all.resize(std::max(1, atom->nmax), 0.0);
        return one.all.data();
    }
    return nullptr;
}
