// pair_style mlanet: a model of mlanet in LAMMPS, without Python and torch; see docs/lammps.md.
//
//     pair_style mlanet [float32 | float64] [threads N] [limits warn | stop | off [every N]]
//     pair_coeff * * MODEL Si O …        one element for each atom type, NULL for types of other styles
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../../native/cpp/engine.hpp"
#include "pair.h"
#include "watch.hpp"

namespace LAMMPS_NS {

class PairMLANet : public Pair {
  public:
    explicit PairMLANet(LAMMPS* lmp);
    ~PairMLANet() override;

    void settings(int argc, char** argv) override;
    void coeff(int argc, char** argv) override;
    void init_style() override;
    double init_one(int, int) override;
    void compute(int eflag, int vflag) override;
    double memory_usage() override;
    void* extract(const char* name, int& dimension) override;
    void* extract_peratom(const char* name, int& columns) override;

    int pack_forward_comm(int count, int* atoms, double* buffer, int, int*) override;
    void unpack_forward_comm(int count, int first, double* buffer) override;
    int pack_reverse_comm(int count, int first, double* buffer) override;
    void unpack_reverse_comm(int count, int* atoms, double* buffer) override;

  private:
    // The engine's view of the other ranks.
    struct Ranks final : mlanet::Exchange {
        PairMLANet* pair;
        explicit Ranks(PairMLANet* one) : pair(one) {}
        void forward(float* rows, int64_t width) override { pair->pass(rows, width, sizeof(float), true); }
        void forward(double* rows, int64_t width) override { pair->pass(rows, width, sizeof(double), true); }
        void reverse(float* rows, int64_t width) override { pair->pass(rows, width, sizeof(float), false); }
        void reverse(double* rows, int64_t width) override { pair->pass(rows, width, sizeof(double), false); }
    };

    static constexpr int LEAST = 64;  // doubles per atom and message that a hybrid style makes room for

    std::unique_ptr<mlanet::Engine> engine_;
    std::string model_;  // as pair_coeff names it
    void require_limits() const;
    mlanet::Precision precision_ = mlanet::Precision::stored;
    int threads_ = 1;
    double cutoff_ = 0;
    std::vector<int> species_;  // by atom type from 1: place in Engine::species, or -1 for NULL

    // One step: atoms that the model sees, local ones first, and their pairs. Ghosts of a local atom take its place, and
    // ghosts of one atom elsewhere share a place, which the first of them fills and empties.
    std::vector<int32_t> place_, kind_;  // of all atoms of this rank: place among those, or -1 · of those: species
    std::vector<char> first_;            // of all atoms: whether rows of its place come and go by it
    std::vector<double> owner_;          // of all atoms: rank and index of the atom itself
    bool alone_ = false;                 // no rank has ghosts of atoms elsewhere
    std::vector<int64_t> start_, neighbor_;
    std::vector<double> vectors_, forces_, energies_, virials_;
    int64_t n_local_ = 0, n_total_ = 0;

    // What the model says of its limits, in every step once somebody has asked: for a hundredth of the step.
    struct Known {
        std::string name;
        mlanet::Limit limit;
        double* mlanet::Answer::* place;
        int trigger = 0;                        // for `fix pair` to set, which nothing follows
        bool asked = false;
        std::vector<double> by_place{}, all{};  // of the last step: of what the model sees, and of all atoms of this rank
    };
    Known known_[3] = {{"distance", mlanet::Limit::distance, &mlanet::Answer::distances},
                       {"energy_std", mlanet::Limit::energy_std, &mlanet::Answer::energies_std},
                       {"force_std", mlanet::Limit::force_std, &mlanet::Answer::forces_std}};

    mlanet::Watch watch_;           // of the word on all atoms
    bool looks_ = false;            // in this step
    std::vector<double> distances_;  // of what the model sees, then

    // What messages between ranks carry meanwhile: rows of numbers by place, columns from `from_` on.
    char* rows_ = nullptr;
    int64_t row_ = 0, from_ = 0, size_ = 0;  // bytes of a row, where the part begins, how long it is
    bool double_ = false;

    std::vector<char> read_model(const std::string& name) const;
    [[noreturn]] void refuse_elements(const std::string& name) const;
    void ask_owners();
    void place_atoms();
    void find_pairs();
    void add_answer(const mlanet::Answer& answer);
    void ask_limits(mlanet::Answer& answer);
    void keep_limits();
    int limits(int argc, char** argv, int at);
    void look(const mlanet::Structure& structure);

    void pass(void* rows, int64_t width, size_t number, bool forward);
    int64_t slots() const { return (size_ + 7) / 8; }  // doubles of LAMMPS' buffers that one row's part takes
    template <class T> void add(char* to, const char* from) const;
};

}  // namespace LAMMPS_NS
