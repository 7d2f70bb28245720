// Screened nuclear repulsion, and what the network sees of distances nearer than any it learnt from; in float64.
//
// Equations: mlanet/nn/repulsion.py and mlanet/nn/floor.py. ρ_i and the stretch h_i depend on an atom's own pairs, and
// every pair on the stretch of both its atoms; so ghosts get h from their owners, and give back its gradient.
#pragma once
#include <cmath>

#include "engine.hpp"
#include "file.hpp"

namespace mlanet {

class Wall {
  public:
    COLD Wall(const ModelFile& file, const Json& settings, int64_t species, double cutoff) : species_(species), cutoff_(cutoff) {
        if (!settings["wall"].boolean()) return;
        present_ = true;
        closest_ = file.numbers<double>("wall.closest", {species, species});
        charge_ = file.numbers<double>("wall.charge", {species}), decay_ = file.numbers<double>("wall.decay", {species});
        screening_ = file.numbers<double>("wall.screening", {4, 2});
        coulomb_ = file.numbers<double>("wall.coulomb", {1})[0];
        for (double one : closest_)
            if (!(one > 0)) throw Error("tensor 'wall.closest' must be positive");
        if (!settings["floor"].boolean()) return;
        floor_ = true;
        const std::vector<double> n = file.numbers<double>("wall.floor", {5});
        most_ = n[0], slack_ = n[1], width_ = n[2], stiffness_ = n[3], nearest_ = n[4];
        if (!(most_ > 0 && width_ > 0 && nearest_ > 0)) throw Error("tensor 'wall.floor' must be positive");
    }

    // The stretch of all atoms; the only exchange on the way forward.
    void look(const Structure& s, Exchange* exchange) {
        if (!floor_) return;
        crowding_.resize(s.n_local), stretch_.resize(s.n_total);
        active_ = false;
        const double near = std::exp(-2 * slack_);
        for (int64_t i = 0; i < s.n_local; ++i) {
            double sum = 0;
            for (int64_t e = s.start[i]; e < s.start[i + 1]; ++e) {
                const double closest = closest_[pair(s, i, e)], squared = square(s, e);
                active_ |= squared < closest * closest * near;
                sum += term(closest * closest, squared).value;
            }
            crowding_[i] = sum, stretch_[i] = ramp(over(sum)).value;
        }
        if (exchange) exchange->forward(stretch_.data(), 1);
        for (double h : stretch_) active_ |= h > 0;
    }

    // (E, 3) as the network sees them.
    template <class T> void see(const Structure& s, T* vectors) const {
        for (int64_t i = 0; i < s.n_local; ++i)
            for (int64_t e = s.start[i]; e < s.start[i + 1]; ++e) {
                const double factor = active() ? std::exp(seen(s, i, e).exponent) : 1.0;
                for (int x = 0; x < 3; ++x) vectors[3 * e + x] = T(factor * s.vectors[3 * e + x]);
            }
    }

    // Adds the energies (n_local) eV of repulsion and crowding.
    void energies(const Structure& s, double* atomic) const {
        if (!present_) return;
        for (int64_t i = 0; i < s.n_local; ++i) {
            for (int64_t e = s.start[i]; e < s.start[i + 1]; ++e) atomic[i] += repulsion(s, i, e).value;
            if (active()) atomic[i] += stiffness_ * stretch_[i] * stretch_[i];
        }
    }

    // From the gradient in the vectors as they are seen to that in the vectors (E, 3), repulsion and crowding included.
    template <class T> void back(const Structure& s, Exchange* exchange, const T* to_seen, double* to) {
        to_stretch_.assign(floor_ ? s.n_total : 0, 0.0);
        for (int64_t i = 0; i < s.n_local; ++i)
            for (int64_t e = s.start[i]; e < s.start[i + 1]; ++e) pair_back(s, i, e, to_seen + 3 * e, to + 3 * e);
        if (!floor_) return;
        if (exchange) exchange->reverse(to_stretch_.data(), 1);
        if (!active()) return;
        for (int64_t i = 0; i < s.n_local; ++i) crowding_back(s, i, to);
    }

  private:
    struct Slope {
        double value, slope;
    };
    struct Seen {
        double exponent, ramp_slope;
    };
    static constexpr int HALF_POWER = 6;

    int64_t species_;
    double cutoff_, coulomb_ = 0, most_ = 1, slack_ = 0, width_ = 1, stiffness_ = 0, nearest_ = 1;
    bool present_ = false, floor_ = false, active_ = false;
    std::vector<double> closest_, charge_, decay_, screening_, crowding_, stretch_, to_stretch_;

    bool active() const { return floor_ && active_; }
    int64_t pair(const Structure& s, int64_t i, int64_t e) const {
        return int64_t(s.species[i]) * species_ + s.species[s.neighbor[e]];
    }
    static double square(const Structure& s, int64_t e) {
        const double* v = s.vectors + 3 * e;
        return v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
    }

    // ramp(t) and its slope: 0 up to `slack`, of slope 1 from `width` further on.
    Slope ramp(double t) const {
        const double y = std::max(0.0, (t - slack_) / width_), inside = std::min(y, 1.0);
        return {width_ * (inside * inside * inside * (1 - 0.5 * inside) + (y - inside)),
                y >= 1 ? 1.0 : inside * inside * (3 - 2 * inside)};
    }
    double over(double crowding) const { return std::log(std::max(1.0, crowding / most_)) / (2 * HALF_POWER); }

    // (d²/r² − d²/r_c²)₊⁶, and its slope in r².
    Slope term(double closest, double squared) const {
        const double least = std::max(squared, 1e-6), ratio = closest / least, most = 1 / (nearest_ * nearest_);
        const double x = std::max(0.0, std::min(ratio, most) - closest / (cutoff_ * cutoff_)), x2 = x * x, x5 = x2 * x2 * x;
        return {x5 * x, ratio > most || squared < 1e-6 ? 0.0 : -HALF_POWER * x5 * ratio / least};
    }

    // ln of the factor by which a pair is seen to be longer.
    Seen seen(const Structure& s, int64_t i, int64_t e) const {
        const double closest = closest_[pair(s, i, e)], squared = std::max(square(s, e), 1e-6);
        const double shared = 0.5 * (stretch_[i] + stretch_[s.neighbor[e]]);
        const Slope own = ramp(0.5 * std::log(closest * closest / squared) - shared);
        return {shared + own.value, own.slope};
    }

    // ½ (e²/4πε₀) Z Z'/r φ(r/a) u(r/r_ij) of one pair, and its derivative over r.
    Slope repulsion(const Structure& s, int64_t i, int64_t e) const {
        if (!present_) return {0, 0};
        const double reach = closest_[pair(s, i, e)], squared = square(s, e);
        if (!(squared < reach * reach)) return {0, 0};
        const int64_t one = s.species[i], other = s.species[s.neighbor[e]];
        const double r = std::sqrt(squared), rate = decay_[one] + decay_[other], t = r / reach, left = 1 - t;
        double phi = 0, phi_slope = 0, series = 21;
        for (int k = 0; k < 4; ++k) {
            const double part = screening_[2 * k] * std::exp(-screening_[2 * k + 1] * rate * r);
            phi += part, phi_slope -= screening_[2 * k + 1] * rate * part;
        }
        for (int k = 4; k >= 0; --k) series = series * t + (k + 1) * (k + 2) / 2;
        const double u = left * left * left * series, u_slope = -168 / reach * t * t * t * t * t * left * left;
        const double size = 0.5 * coulomb_ * charge_[one] * charge_[other] / r;
        return {size * phi * u, size * (phi_slope * u + phi * u_slope - phi * u / r) / r};
    }

    template <class T> void pair_back(const Structure& s, int64_t i, int64_t e, const T* to_seen, double* to) {
        const double* v = s.vectors + 3 * e;
        double along = repulsion(s, i, e).slope, factor = 1;
        if (active()) {
            const Seen at = seen(s, i, e);
            factor = std::exp(at.exponent);
            const double to_exponent = factor * (v[0] * to_seen[0] + v[1] * to_seen[1] + v[2] * to_seen[2]);
            const double squared = square(s, e), to_shared = 0.5 * to_exponent * (1 - at.ramp_slope);
            if (squared >= 1e-6) along -= to_exponent * at.ramp_slope / squared;
            to_stretch_[i] += to_shared, to_stretch_[s.neighbor[e]] += to_shared;
        }
        for (int x = 0; x < 3; ++x) to[x] = factor * to_seen[x] + along * v[x];
    }

    void crowding_back(const Structure& s, int64_t i, double* to) const {
        if (!(crowding_[i] > most_)) return;
        const double above = to_stretch_[i] + 2 * stiffness_ * stretch_[i];
        const double by_crowding = above * ramp(over(crowding_[i])).slope / (2 * HALF_POWER * crowding_[i]);
        for (int64_t e = s.start[i]; e < s.start[i + 1]; ++e) {
            const double closest = closest_[pair(s, i, e)];
            const double along = 2 * by_crowding * term(closest * closest, square(s, e)).slope;
            for (int x = 0; x < 3; ++x) to[3 * e + x] += along * s.vectors[3 * e + x];
        }
    }
};

}  // namespace mlanet
