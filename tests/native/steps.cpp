// Steps of a few atoms whose number, neighbours and ghosts change from step to step, by two engines at once that have
// some threads each. For sanitizers: steps MODEL STEPS THREADS
#include <cstdio>
#include <random>
#include <thread>

#include "engine.cpp"

using namespace mlanet;

namespace {

struct Owners final : Exchange {
    int64_t n_local = 0;
    std::vector<int64_t> owner;  // of each ghost

    void forward(float* rows, int64_t width) override { pass(rows, width); }
    void forward(double* rows, int64_t width) override { pass(rows, width); }
    void reverse(float* rows, int64_t width) override { give(rows, width); }
    void reverse(double* rows, int64_t width) override { give(rows, width); }

    template <class T> void pass(T* rows, int64_t width) const {
        for (size_t g = 0; g < owner.size(); ++g)
            std::copy_n(rows + owner[g] * width, width, rows + (n_local + int64_t(g)) * width);
    }
    template <class T> void give(T* rows, int64_t width) const {
        for (size_t g = 0; g < owner.size(); ++g)
            for (int64_t k = 0; k < width; ++k) rows[owner[g] * width + k] += rows[(n_local + int64_t(g)) * width + k];
    }
};

// Atoms on a lattice that is shaken, none to seven of them, and copies of some further off.
double step(Engine& engine, std::mt19937& draw) {
    Owners owners;
    const int64_t n = draw() % 8, ghosts = n ? draw() % 5 : 0;
    std::vector<double> place;
    std::vector<int32_t> species;
    const auto shaken = [&](double at) { return at + 0.3 * double(draw()) / double(draw.max()); };
    for (int64_t i = 0; i < n; ++i) {
        for (const int64_t at : {i % 2, i / 2 % 2, i / 4}) place.push_back(shaken(1.1 * double(at)));
        species.push_back(int32_t(draw() % engine.species().size()));
    }
    owners.n_local = n;
    for (int64_t g = 0; g < ghosts; ++g) {
        const int64_t owner = int64_t(draw()) % n;
        owners.owner.push_back(owner), species.push_back(species[owner]);
        for (int x = 0; x < 3; ++x) place.push_back(place[3 * owner + x] + (x ? 0.0 : 3.0 + double(g)));
    }
    std::vector<int64_t> start = {0}, neighbor;
    std::vector<double> vectors;
    for (int64_t i = 0; i < n; start.push_back(int64_t(neighbor.size())), ++i)
        for (int64_t j = 0; j < n + ghosts; ++j) {
            double v[3], square = 0;
            for (int x = 0; x < 3; ++x) v[x] = place[3 * j + x] - place[3 * i + x], square += v[x] * v[x];
            if (square < 0.01 || square > engine.cutoff() * engine.cutoff()) continue;
            neighbor.push_back(j), vectors.insert(vectors.end(), v, v + 3);
        }
    std::vector<double> forces(3 * (n + ghosts) + 1), virials(9 * n + 1), features(n * engine.feature_width() + 1), atomic(n + 1);
    Answer answer;
    answer.forces = forces.data(), answer.atomic_virials = virials.data();
    answer.features = features.data(), answer.atomic_energies = atomic.data();
    engine.compute({n, n + ghosts, species.data(), start.data(), neighbor.data(), vectors.data()}, &owners, answer);
    return answer.energy;
}

double run(const std::string& model, int steps, int threads, unsigned seed) {
    const auto engine = Engine::open(model);
    engine->use_threads(threads);
    std::mt19937 draw(seed);
    double sum = 0;
    for (int k = 0; k < steps; ++k) sum += step(*engine, draw);
    return sum;
}

}  // namespace

int main(int count, char** words) {
    if (count != 4) return 2;
    double sums[2] = {};
    const auto work = [&](int k) { sums[k] = run(words[1], std::atoi(words[2]), std::atoi(words[3]), 7); };
    std::thread other(work, 1);
    work(0);
    other.join();
    std::printf("%.17g %.17g\n", sums[0], sums[1]);
    return std::isfinite(sums[0]) && sums[0] == sums[1] ? 0 : 1;
}
