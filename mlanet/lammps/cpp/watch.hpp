// The word on a whole system, told once when it becomes graver: inside, at the edge of, or outside the training set.
#pragma once
#include <algorithm>
#include <string>

#include "../../native/cpp/engine.hpp"
#include "atom.h"
#include "comm.h"
#include "elements.hpp"
#include "error.h"
#include "lammps.h"
#include "timer.h"
#include "update.h"

namespace mlanet {

// What `pair_style mlanet limits warn | stop | off every N` asks for: `usual` warns, where the model knows its limits.
class Watch {
  public:
    enum Way { usual, off, warn, stop };
    Way way = usual;
    int every = 100;

    // Whether this step is looked at: the same on all ranks.
    bool looks(LAMMPS_NS::bigint step, const Engine& engine) const {
        return way != off && step % every == 0 && engine.knows(Limit::distance);
    }
    // 0, 1 or 2 of the last look; -1 before the first.
    int grade() const { return grade_; }

    // One look, by all ranks: the gravest fact of this one's atoms, and the id of the atom that it is about.
    void look(LAMMPS_NS::LAMMPS* lmp, const Engine& engine, const Structure& s, const Doubt& mine, LAMMPS_NS::tagint id) {
        struct {
            double gravity;
            int rank;
        } here{mine.gravity, lmp->comm->me}, gravest{0, 0};
        MPI_Allreduce(&here, &gravest, 1, MPI_DOUBLE_INT, MPI_MAXLOC, lmp->world);
        grade_ = mine.grade;
        MPI_Bcast(&grade_, 1, MPI_INT, gravest.rank, lmp->world);
        const bool ends = way == stop && grade_ == 2;
        if (grade_ <= worst_ && !ends) return;
        worst_ = std::max(worst_, grade_);
        char text[ROOM] = "";
        if (lmp->comm->me == gravest.rank) {
            const std::string where = grade_ == 2 ? "outside" : "at the edge of", who = symbol(engine, s, mine.atom);
            const std::string what = fmt::format("step {}: {} the training set: atom {} ({}): {}{}", lmp->update->ntimestep, where,
                                                 id, who, said(engine, s, mine), ends ? "; the run ends here" : "");
            std::copy_n(what.data(), std::min(what.size(), size_t(ROOM) - 1), text);
        }
        MPI_Bcast(text, ROOM, MPI_CHAR, gravest.rank, lmp->world);
        if (lmp->comm->me == 0) lmp->error->warning(FLERR, "mlanet: {}", text);
        if (ends) lmp->timer->force_timeout();
    }

  private:
    static constexpr int ROOM = 512;
    int worst_ = 0, grade_ = -1;

    static std::string symbol(const Engine& engine, const Structure& s, int64_t place) {
        return SYMBOLS[engine.species()[s.species[place]]];
    }

    // A fact in the words of mlanet/limits/facts.py.
    static std::string said(const Engine& engine, const Structure& s, const Doubt& d) {
        const std::string one = symbol(engine, s, d.atom), other = symbol(engine, s, d.other);
        const bool swapped = d.fact == Doubt::unseen && s.species[d.other] < s.species[d.atom];
        const std::string pair = swapped ? other + "-" + one : one + "-" + other;
        switch (d.fact) {
            case Doubt::unseen:
                return fmt::format("{}: the training set has no such neighbours within {:g} Å", pair, engine.cutoff());
            case Doubt::close:
                return fmt::format("{} {:.2f} Å apart; the closest in training was {:.2f} Å", pair, d.value, d.known);
            case Doubt::crowded: return "more crowded than any in training";
            case Doubt::bare:
                return fmt::format("fewer neighbours than any {} in training: {:.2f}, at least {:.2f} there, counted by distance", one, d.value, d.known);
            case Doubt::full:
                return fmt::format("more neighbours than any {} in training: {:.2f}, at most {:.2f} there, counted by distance", one, d.value, d.known);
            default:
                return fmt::format("surroundings unlike the training set: {:.3g} times as far as its farthest atom", d.value);
        }
    }
};

}  // namespace mlanet
