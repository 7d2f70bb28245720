// Plain facts that put an atom beyond the training set, and its distance: the gravest of them, as mlanet/limits/facts.py
// and assess.py have it, in float64. Every fact is one atom's, so that processes judge their own atoms.
//
// ρ_i = Σ_j (d²/r² − d²/r_c²)₊⁶ over the largest ρ in training · n_i = Σ_j (1 − r²/r_c²)² · r over the closest distance
#pragma once
#include <cmath>

#include "file.hpp"

namespace mlanet {

class Facts {
  public:
    // A file without limits knows none.
    COLD Facts(const ModelFile& file, int64_t kinds, double cutoff) : kinds_(kinds), square_(cutoff * cutoff) {
        if (!file.has("limits.coordination")) return;
        coordination_ = file.numbers<double>("limits.coordination", {kinds, 2});
        if (file.has("statistics.closest")) closest_ = file.numbers<double>("statistics.closest", {kinds, kinds});
        if (!file.has("statistics.crowding")) return;
        wall_ = file.numbers<double>("statistics.wall", {kinds, kinds});
        for (double one : file.numbers<double>("statistics.crowding", {file.first_axis("statistics.crowding")})) most_ = std::max(most_, one);
    }

    // Of the local atoms; distances (n_local) of `Answer`.
    Doubt gravest(const Structure& s, const double* distances) const {
        Doubt found;
        for (int64_t i = 0; i < s.n_local; ++i) {
            double crowding = 0, coordination = 0;
            for (int64_t e = s.start[i]; e < s.start[i + 1]; ++e) {
                const double *v = s.vectors + 3 * e, squared = v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
                if (!(squared < square_)) continue;
                const int64_t kind = s.species[i] * kinds_ + s.species[s.neighbor[e]];
                const double left = 1 - squared / square_;
                coordination += left * left;
                if (most_ > 0) crowding += crowded(wall_[kind] * wall_[kind], squared);
                if (!closest_.empty()) near(i, s.neighbor[e], closest_[kind], squared, found);
            }
            if (most_ > 0) {
                const double stretch = std::pow(std::max(crowding / most_, 1e-12), -1.0 / (2 * HALF_POWER));
                worse({grade(CROWDED[0] - stretch, CROWDED[1] - stretch), Doubt::crowded, i, i, stretch, 1.0}, 1 / stretch, found);
            }
            counted(i, s.species[i], coordination, found);
            worse({grade(distances[i] - 1, distances[i] - FAR), Doubt::far, i, i, distances[i], 1.0}, distances[i], found);
        }
        return found;
    }

  private:
    static constexpr double CLOSE[] = {0.95, 0.9}, CROWDED[] = {0.97, 0.93}, BARE[] = {0.9, 0.7}, FULL[] = {1.1, 1.4};
    static constexpr double FAR = 1.5, LEAST = 1e-9, NEAREST = 0.05;
    static constexpr int HALF_POWER = 6;

    int64_t kinds_;
    double square_, most_ = 0;
    std::vector<double> coordination_, closest_, wall_;

    // 1 where the first number is positive, 2 where the second is.
    static int grade(double edge, double outside) { return outside > 0 ? 2 : edge > 0 ? 1 : 0; }

    static void worse(const Doubt& one, double severity, Doubt& found) {
        if (one.grade == 0) return;
        const double key = 100.0 * one.grade - 10.0 * one.fact + severity / (1 + severity);
        if (key <= found.gravity) return;
        found = one, found.gravity = key;
    }

    double crowded(double closest, double squared) const {
        const double ratio = std::min(closest / std::max(squared, 1e-6), 1 / (NEAREST * NEAREST));
        const double x = std::max(0.0, ratio - closest / square_);
        return x * x * x * x * x * x;
    }

    static void near(int64_t i, int64_t j, double closest, double squared, Doubt& found) {
        const double r = std::sqrt(squared);
        if (closest == 0) return worse({2, Doubt::unseen, i, j, r, 0.0}, 0, found);
        if (r < CLOSE[0] * closest) worse({grade(CLOSE[0] * closest - r, CLOSE[1] * closest - r), Doubt::close, i, j, r, closest}, closest / r, found);
    }

    void counted(int64_t i, int32_t species, double n, Doubt& found) const {
        const double least = coordination_[2 * species], most = coordination_[2 * species + 1];
        if (!(most > 0)) return;
        worse({grade(BARE[0] * least - LEAST - n, BARE[1] * least - LEAST - n), Doubt::bare, i, i, n, least},
              std::abs(n - least) / std::max(least, LEAST), found);
        worse({grade(n - FULL[0] * most - LEAST, n - FULL[1] * most - LEAST), Doubt::full, i, i, n, most},
              std::abs(n - most) / std::max(most, LEAST), found);
    }
};

}  // namespace mlanet
