// What networks on pairs of atoms share around their layers: wall, pairs, read-out; energies, and the end of the way back.
#pragma once
#include "base.hpp"
#include "facts.hpp"
#include "limits.hpp"
#include "pairs.hpp"
#include "readout.hpp"
#include "wall.hpp"

namespace mlanet {

// Angles and POWER as `Pairs` has them. A network has features of whole vectors, `channels_` wide.
template <class T, class Angles, int POWER> class Network : public EngineBase {
  public:
    static constexpr int W = Lanes<T>::width, M = Angles::rows;

    Precision precision() const override { return sizeof(T) == 4 ? Precision::float32 : Precision::float64; }
    int64_t feature_width() const override { return readout_.features(); }
    bool knows(Limit limit) const override { return limits_.knows(limit); }
    Doubt doubt(const Structure& s, const double* distances) const override { return facts_.gravest(s, distances); }

  protected:
    COLD Network(const ModelFile& file, const ReadoutSettings& readout)
        : EngineBase(file), kinds_(int64_t(species().size())), channels_(whole<T>(readout.channels)), pairs_(radial_),
          readout_(file, readout), wall_(file, file.header()["settings"], kinds_, cutoff()),
          limits_(file, kinds_, readout.hidden), facts_(file, kinds_, cutoff()) {
        radial_.cutoff = T(cutoff());
        embedding_ = padded(file.numbers<T>("embedding", {kinds_, readout.channels}), 1, kinds_, 1, readout.channels,
                            kinds_, channels_);
        lone_features_ = file.numbers<double>("lone_features", {kinds_, readout.hidden});
    }

    int64_t kinds_, channels_;
    RadialBasis<T> radial_;  // but for its cutoff, for the network to fill
    Pairs<T, Angles, POWER> pairs_;
    Readout<T> readout_;
    std::vector<T> embedding_;

    // The pairs as the network sees them.
    Step<T> begin(const Structure& s, Exchange* exchange, const Answer& answer) {
        require(s, exchange);
        if ((answer.distances && !knows(Limit::distance)) || (answer.energies_std && !knows(Limit::energy_std)) ||
            (answer.forces_std && !knows(Limit::force_std)))
            throw Error("the model file does not say how large errors are; mlanet calibrate measures them");
        wall_.look(s, exchange);
        pairs_.take(s);
        wall_.see(s, pairs_.vectors);
        pairs_.forward(s, threads());
        return {&s, exchange, threads(), pairs_.u, pairs_.basis, pairs_.angular, nullptr};
    }

    // Energies (n_local) eV of the read-out's site energies: scaled, less those of lone atoms, with references.
    double* site_energies(const Step<T>& step, const T* scalars) {
        const Structure& s = *step.structure;
        T* site = site_.take(s.n_local + 1);
        readout_.forward(step, scalars, pairs_.coordination, site);
        double* atomic = atomic_.take(s.n_local + 1);
        for (int64_t i = 0; i < s.n_local; ++i) atomic[i] = atom(s.species[i], double(site[i]));
        return atomic;
    }

    // Adds what is not learnt to energies of atoms, and answers with them and with features.
    void tell(const Structure& s, double* atomic, Answer& answer) {
        wall_.energies(s, atomic);
        answer.energy = 0;
        for (int64_t i = 0; i < s.n_local; ++i) answer.energy += atomic[i];
        if (answer.atomic_energies) std::copy_n(atomic, s.n_local, answer.atomic_energies);
        if (!answer.features && !judges(answer)) return;
        const int64_t n = readout_.features();
        known_ = answer.features ? answer.features : known_store_.take(s.n_local * n + 1);
        for (int64_t i = 0; i < s.n_local; ++i)
            for (int64_t c = 0; c < n; ++c)
                known_[i * n + c] = double(readout_.features_of(i)[c]) - lone_features_[s.species[i] * n + c];
    }

    // From energies to the scalars (n_local, C) of the last layer; adds to the gradients in u of the pairs and in n_i.
    void readout_back(const Step<T>& step, T* to, T* to_envelope, T* to_coordination) {
        const Structure& s = *step.structure;
        T* up = up_site_.take(s.n_local + 1);
        for (int64_t i = 0; i < s.n_local; ++i) up[i] = T(scale(s.species[i]));
        readout_.backward(step, pairs_.coordination, up, to, to_envelope, to_coordination);
    }

    // Gradients in u, RBF and Y or û of the pairs, and in 1 + n/n̄; in place k, zeros where asked for.
    PairSums<T> pair_sums(const Structure& s, int k, bool zeros) {
        const int64_t pairs = s.start[s.n_local], sizes[] = {pairs, pairs * radial_.functions(), pairs * M};
        PairSums<T> sums{};
        T** places[] = {&sums.envelope, &sums.basis, &sums.angular};
        for (int x = 0; x < 3; ++x) {
            *places[x] = sums_[k][x].take(rounded_up(sizes[x], W) + W);
            if (zeros) std::fill_n(*places[x], rounded_up(sizes[x], W), T(0));
        }
        sums.factor = to_factor_.take(s.n_local + 1);
        return sums;
    }

    void add(const Structure& s, const PairSums<T>& from, const PairSums<T>& to) const {
        const int64_t pairs = s.start[s.n_local];
        plus<T>(pairs * radial_.functions(), from.basis, to.basis), plus<T>(pairs * M, from.angular, to.angular);
    }

    // Forces and virials, once all gradients are summed; those in u only where there are any.
    void finish(const Step<T>& step, const PairSums<T>& sums, Answer& answer) {
        const Structure& s = *step.structure;
        T* to_seen = to_vectors_.take(3 * s.start[s.n_local] + 1);
        pairs_.backward(s, step.threads, sums.envelope, sums.basis, sums.angular, to_seen);
        double* to_vectors = to_true_.take(3 * s.start[s.n_local] + 1);
        wall_.back(s, step.exchange, to_seen, to_vectors);
        double* const asked = answer.forces;
        if (judges(answer) && !asked) answer.forces = forces_.take(3 * s.n_total + 1);
        share(s, to_vectors, answer);
        if (judges(answer)) judge(step, answer);
        answer.forces = asked;
    }

  private:
    Wall wall_;
    Limits limits_;
    Facts facts_;
    double* known_ = nullptr;  // features, which the way back overwrites
    Buffer<double> known_store_, forces_, whole_;

    static bool judges(const Answer& answer) { return answer.distances || answer.energies_std || answer.forces_std; }

    // Distances and standard errors, of whole forces: with the shares of ghosts everywhere.
    void judge(const Step<T>& step, Answer& answer) {
        const Structure& s = *step.structure;
        double* whole = whole_.take(3 * s.n_total + 1);
        std::copy_n(answer.forces, 3 * s.n_total, whole);
        if (step.exchange) step.exchange->reverse(whole, 3);
        for (int64_t i = 0; i < s.n_local; ++i) {
            const double *f = whole + 3 * i, size = std::sqrt(f[0] * f[0] + f[1] * f[1] + f[2] * f[2]);
            const Judged found = limits_.judge(s.species[i], known_ + i * readout_.features(), size, scale(s.species[i]));
            if (answer.distances) answer.distances[i] = found.distance;
            if (answer.energies_std) answer.energies_std[i] = found.energy_std;
            if (answer.forces_std) answer.forces_std[i] = found.force_std;
        }
    }

    std::vector<double> lone_features_;
    Buffer<T> site_, up_site_, to_factor_, sums_[2][3], to_vectors_;
    Buffer<double> to_true_, atomic_;
};

}  // namespace mlanet
