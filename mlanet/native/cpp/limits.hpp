// How far atoms are from the training set, and standard errors of their energies and forces: what a model file says of
// its limits, as mlanet/limits/measure.py and assess.py have it (docs/uncertainty.md), in float64.
//
// y = (x − μ) W, d = |y|/√C over the farthest atom's · ln s_F = a_Z + c₁ ln(|F| + 0.03) + c₂ ln(|y|/√C) + Σ w tanh(y/2)
// ln s_E = ln α + b ln q + c ln s_F, q² = fᵀ R f, f = x times the scale; beyond the border s_E grows by d, s_F by √d.
#pragma once
#include <cmath>

#include "file.hpp"

namespace mlanet {

struct Judged {
    double distance, energy_std, force_std;
};

class Limits {
  public:
    // Of features (C) of `kinds` species; a file without limits knows none.
    COLD Limits(const ModelFile& file, int64_t kinds, int64_t width) : kinds_(kinds), width_(width) {
        if (!file.has("limits.mean")) return;
        mean_ = file.numbers<double>("limits.mean", {kinds, width});
        shared_ = file.first_axis("limits.whiten") == 1;
        whiten_ = file.numbers<double>("limits.whiten", {shared_ ? 1 : kinds, width, width});
        reach_ = file.numbers<double>("limits.reach", {kinds});
        rigidity_ = file.numbers<double>("limits.rigidity", {width, width});
        if (file.first_axis("limits.forces")) forces_ = file.numbers<double>("limits.forces", {kinds + 2 + width});
        if (file.first_axis("limits.energy")) energy_ = file.numbers<double>("limits.energy", {3});
    }

    bool knows(Limit limit) const {
        return limit == Limit::distance ? !reach_.empty() : !(limit == Limit::energy_std ? energy_ : forces_).empty();
    }

    // One atom: features (C), the size of its force in eV/Å, the scale of its element; NaN for what was not measured.
    Judged judge(int32_t species, const double* features, double force, double scale) {
        const double* centre = mean_.data() + species * width_;
        const double* matrix = whiten_.data() + (shared_ ? 0 : species) * width_ * width_;
        white_.assign(width_, 0.0);
        for (int64_t a = 0; a < width_; ++a)
            for (int64_t b = 0; b < width_; ++b) white_[b] += (features[a] - centre[a]) * matrix[a * width_ + b];
        double squared = 0;
        for (double y : white_) squared += y * y;
        const double away = std::sqrt(squared / double(width_)), score = away / reach_[species];
        const double growth = std::min(std::max(score, 1.0), MOST_GROWTH);
        Judged found{score, std::nan(""), std::nan("")};
        if (!forces_.empty()) found.force_std = force_std(species, force, away) * std::sqrt(growth);
        if (energy_.empty()) return found;
        const double spread = forces_.empty() ? 1.0 : found.force_std;
        const double sum = energy_[0] + energy_[1] * std::log(std::abs(scale) * rigidity(features) + TINY) + energy_[2] * std::log(spread + TINY);
        found.energy_std = std::exp(std::min(sum, MOST_LOGARITHM)) * growth;
        return found;
    }

  private:
    static constexpr double TINY = 1e-9, SMALL_FORCE = 0.03, MOST_GROWTH = 1e3, MOST_LOGARITHM = 50.0;

    int64_t kinds_, width_;
    bool shared_ = false;  // one W of all species
    std::vector<double> mean_, whiten_, reach_, rigidity_, forces_, energy_, white_;

    double force_std(int32_t species, double force, double away) const {
        const double* of = forces_.data() + kinds_;
        double sum = forces_[species] + of[0] * std::log(force + SMALL_FORCE) + of[1] * std::log(away + TINY);
        for (int64_t k = 0; k < width_; ++k) sum += of[2 + k] * std::tanh(0.5 * white_[k]);
        return std::exp(std::min(sum, MOST_LOGARITHM));
    }

    // √(xᵀ R x).
    double rigidity(const double* features) const {
        double sum = 0;
        for (int64_t a = 0; a < width_; ++a) {
            double row = 0;
            for (int64_t b = 0; b < width_; ++b) row += rigidity_[a * width_ + b] * features[b];
            sum += features[a] * row;
        }
        return std::sqrt(std::max(sum, 0.0));
    }
};

}  // namespace mlanet
