// What the layers of a network share during a step, and how they go through atoms.
#pragma once
#include "../../ops/cpp/simd.hpp"
#include "../../ops/cpp/threads.hpp"
#include "engine.hpp"

namespace mlanet {

constexpr int64_t BLOCK = 24;  // atoms at a time, which stay in the cache; a multiple of the rows of a tile

template <class T> struct Step {
    const Structure* structure;
    Exchange* exchange;
    int64_t threads;
    T *envelope, *basis, *angular;  // of pairs: u, RBF, Y or û
    T* factor;                      // 1 + n/n̄ of atoms, where a model asks for it

    void forward(T* rows, int64_t width) const {
        if (exchange) exchange->forward(rows, width);
    }
    void reverse(T* rows, int64_t width) const {
        if (exchange) exchange->reverse(rows, width);
    }
};

// Gradients of one layer in what pairs are and in 1 + n/n̄.
template <class T> struct PairSums {
    T *envelope, *basis, *angular, *factor;
};

// A thread's places for what a block of atoms needs in passing.
template <class T> struct Room {
    Buffer<T> buffer[4];
    T* take(int k, int64_t size) { return buffer[k].take(size); }
};

template <class T> class Rooms {
  public:
    // Calls work(room, first, n) for atoms first … first + n − 1, n <= BLOCK.
    template <class Work> void over_blocks(int64_t atoms, int64_t threads, Work work) {
        while (int64_t(rooms_.size()) < threads) rooms_.push_back(std::make_unique<Room<T>>());
        over_nodes(atoms, threads, [&](int64_t t, int64_t first, int64_t last) {
            for (int64_t i = first; i < last; i += BLOCK) work(*rooms_[t], i, std::min(BLOCK, last - i));
        });
    }

  private:
    std::vector<std::unique_ptr<Room<T>>> rooms_;
};

// Adds whole vectors of numbers to others.
template <class T> void plus(int64_t count, const T* from, T* to) {
    for (int64_t k = 0; k < count; k += Lanes<T>::width) store<T>(to + k, load<T>(to + k) + load<T>(from + k));
}

// Adds the sums of all threads to those of the first.
template <class T> void join(T* place, int64_t size, int64_t threads) {
    for (int64_t t = 1; t < threads; ++t)
        for (int64_t k = 0; k < size; ++k) place[k] += place[t * size + k];
}

}  // namespace mlanet
