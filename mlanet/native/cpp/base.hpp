// What every model of the native engine shares: who it is, sound structures, references, forces from pairs.
#pragma once
#include <cmath>

#include "file.hpp"

namespace mlanet {

class EngineBase : public Engine {
  public:
    double cutoff() const override { return cutoff_; }
    const std::vector<int>& species() const override { return species_; }
    const std::string& digest() const override { return digest_; }
    const std::string& header() const override { return header_; }
    void use_threads(int threads) override {
        if (threads < 1 || threads > 1024) throw Error("threads must be 1 to 1024, got " + std::to_string(threads));
        threads_ = threads;
    }

  protected:
    static constexpr double MIN_DISTANCE = 1e-3;  // Å; nearer, no answer has a meaning

    COLD explicit EngineBase(const ModelFile& file) : header_(file.text()), digest_(file.header()["digest"].text()),
                                                 cutoff_(file.header()["cutoff"].number()) {
        if (!(cutoff_ > 0 && cutoff_ <= 100)) throw Error("the cutoff must be positive and at most 100 Å");
        for (const Json& one : file.header()["species"].list()) species_.push_back(int(one.whole(1, 118)));
        const int64_t n = int64_t(species_.size());
        if (!n || n > 118) throw Error("the header names no elements");
        references_ = file.numbers<double>("references", {n}), scale_ = file.numbers<double>("scale", {n});
        lone_ = file.numbers<double>("lone_energies", {n});
    }

    int64_t threads() const { return threads_; }
    double scale(int32_t species) const { return scale_[species]; }
    // eV of an atom whose site energy the network gives.
    double atom(int32_t species, double site) const { return (site - lone_[species]) * scale_[species] + references_[species]; }

    void require(const Structure& s, const Exchange* exchange) const {
        if (s.n_local < 0 || s.n_total < s.n_local || !s.start || s.start[0] != 0) throw Error("the structure has impossible sizes");
        if (s.n_total > s.n_local && !exchange) throw Error("a structure with ghosts needs an exchange");
        for (int64_t i = 0; i < s.n_total; ++i)
            if (s.species[i] < 0 || size_t(s.species[i]) >= species_.size())
                throw Error("atom " + std::to_string(i) + " is of an element that the model does not know");
        for (int64_t i = 0; i < s.n_local; ++i)
            if (s.start[i + 1] < s.start[i]) throw Error("the pairs of atom " + std::to_string(i) + " end before they begin");
        for (int64_t i = 0; i < s.n_local; ++i)
            for (int64_t e = s.start[i]; e < s.start[i + 1]; ++e) {
                const double *v = s.vectors + 3 * e, squared = v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
                if (s.neighbor[e] < 0 || s.neighbor[e] >= s.n_total) throw Error("a neighbour of atom " + std::to_string(i) + " is not there");
                if (!(squared >= MIN_DISTANCE * MIN_DISTANCE && squared < 1e12))
                    throw Error("atom " + std::to_string(i) + " has a neighbour at " + Json::shown(std::sqrt(squared)) + " Å");
            }
    }

    // Forces and virials from the gradients in the vectors of pairs (E, 3).
    static void share(const Structure& s, const double* to_vectors, Answer& answer) {
        std::fill(answer.virial, answer.virial + 9, 0.0);
        if (answer.forces) std::fill_n(answer.forces, 3 * s.n_total, 0.0);
        for (int64_t i = 0; i < s.n_local; ++i) {
            double own[9] = {};
            for (int64_t e = s.start[i]; e < s.start[i + 1]; ++e) {
                const double *g = to_vectors + 3 * e, *r = s.vectors + 3 * e;
                for (int x = 0; x < 3; ++x)
                    for (int y = 0; y < 3; ++y) own[3 * x + y] += r[x] * g[y];
                if (!answer.forces) continue;
                for (int x = 0; x < 3; ++x) answer.forces[3 * i + x] += g[x], answer.forces[3 * s.neighbor[e] + x] -= g[x];
            }
            for (int k = 0; k < 9; ++k) answer.virial[k] += own[k];
            if (answer.atomic_virials) std::copy_n(own, 9, answer.atomic_virials + 9 * i);
        }
    }

  private:
    std::string header_, digest_;
    double cutoff_;
    std::vector<int> species_;
    std::vector<double> references_, scale_, lone_;
    int threads_ = 1;
};

}  // namespace mlanet
