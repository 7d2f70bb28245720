// Energies, forces and virials of a model without Python and torch: the public interface of the native engine.
//
// A program opens a model file (`mlanet export native`), fills a `Structure` and calls `compute`. Units are eV and Å.
// Compile engine.cpp beside your own files (docs/native.md); it needs C++17 and nothing else.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace mlanet {

// A file that is no model, or a structure that the model cannot answer; what() says which, and what is supported.
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// What atoms of this process owe to others: rows of ghosts, atoms n_local … n_total − 1, belong to an owner, which is
// an atom of this or of another process. All calls come in the same order on all processes, also on one without atoms.
class Exchange {
  public:
    virtual ~Exchange() = default;
    // Rows (n_total, width): every ghost's row becomes its owner's.
    virtual void forward(float* rows, int64_t width) = 0;
    virtual void forward(double* rows, int64_t width) = 0;
    // Rows (n_total, width): every ghost's row is added to its owner's; what ghosts hold afterwards is not read.
    virtual void reverse(float* rows, int64_t width) = 0;
    virtual void reverse(double* rows, int64_t width) = 0;
};

// Atoms, and all pairs (i, j) with i local and nearer than the cutoff; pairs beyond it may be among them and do nothing.
// Images of one atom are several pairs with the same j; with ghosts, every j may have a place of its own.
struct Structure {
    int64_t n_local = 0, n_total = 0;
    const int32_t* species = nullptr;   // (n_total) places in Engine::species
    const int64_t* start = nullptr;     // (n_local + 1) pairs of atom i are start[i] … start[i + 1] − 1
    const int64_t* neighbor = nullptr;  // (pairs) j < n_total
    const double* vectors = nullptr;    // (pairs, 3) Å, from i to j
};

// What the model says. Places that are null are not filled; others are overwritten.
struct Answer {
    double energy = 0;                  // eV, of the local atoms, references included
    double virial[9] = {};              // eV, ∂E/∂ε = Σ_ij r_ij ⊗ ∂E/∂r_ij of the pairs given; stress is this over V
    double* atomic_energies = nullptr;  // (n_local) eV, summing to `energy`
    double* forces = nullptr;           // (n_total, 3) eV/Å; those of ghosts are shares that belong to their owners
    double* atomic_virials = nullptr;   // (n_local, 9) eV, the terms of the pairs of each atom, summing to `virial`
    double* features = nullptr;         // (n_local, feature_width) what the last linear layer sees, less a lone atom's
    // Of models that know their limits; as Python says them (docs/uncertainty.md), which the whole force of an atom is
    // needed for: gradients of ghosts are passed once more, so all processes ask for them, or none.
    double* distances = nullptr;        // (n_local) from the training set, 1 at its border
    double* energies_std = nullptr;     // (n_local) eV, standard errors of the atomic energies
    double* forces_std = nullptr;       // (n_local) eV/Å, of each component of the forces
};

// The gravest fact that puts one of the local atoms beyond the training set (docs/uncertainty.md).
struct Doubt {
    enum Fact { unseen, close, crowded, bare, full, far };
    int grade = 0;                // 0 inside, 1 at the edge, 2 outside; the rest has a meaning from 1 on
    Fact fact = unseen;           // elements never neighbours · too close · crowded · too few, too many neighbours · strange
    int64_t atom = -1, other = -1;  // places in the structure: whom it is about, and the neighbour of the first two
    double value = 0, known = 0;  // Å apart, share of the training set's lengths, neighbours, or distance; and in training
    double gravity = 0;           // grows with the grade, then in the order of facts, then with how far beyond
};

// What a model may know of its limits.
enum class Limit { distance, energy_std, force_std };

enum class Precision { stored, float32, float64 };  // of the computation; energies are summed in float64 in all

// A model, ready to compute. Not to be shared by threads: it keeps its memory from call to call.
class Engine {
  public:
    // Throws `Error` for a file that cannot be read or is not a whole, sound model.
    static std::unique_ptr<Engine> open(const std::string& path, Precision precision = Precision::stored);
    static std::unique_ptr<Engine> read(const void* bytes, size_t size, Precision precision = Precision::stored);
    virtual ~Engine() = default;

    virtual double cutoff() const = 0;                      // Å
    virtual const std::vector<int>& species() const = 0;    // atomic numbers, ascending
    virtual const std::string& digest() const = 0;          // of the model that the file was exported from
    virtual const std::string& header() const = 0;          // the file's JSON, which says all that is known of it
    virtual Precision precision() const = 0;                // float32 or float64
    virtual int64_t feature_width() const = 0;              // numbers per atom in Answer::features
    virtual bool knows(Limit limit) const = 0;              // whether Answer's place for it can be asked for
    // Of a structure and its `Answer::distances`: that which decides on the word.
    virtual Doubt doubt(const Structure& structure, const double* distances) const = 0;
    virtual int64_t largest_width() const = 0;              // most numbers per atom that Exchange is asked to pass
    virtual void use_threads(int threads) = 0;              // of OpenMP, 1 at first

    // One step. `exchange` may be null where there are no ghosts. Throws `Error` for a structure without a meaning,
    // before the first exchange.
    virtual void compute(const Structure& structure, Exchange* exchange, Answer& answer) = 0;
};

}  // namespace mlanet
