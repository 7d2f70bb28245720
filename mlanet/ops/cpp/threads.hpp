// Who works on which atoms: every thread on neighbouring ones, so that sums depend on nothing but their number.
#pragma once
#include <algorithm>
#include <cstdint>
#ifdef MLANET_STD_THREADS
#include <thread>
#include <vector>
#endif

namespace mlanet {

// Calls work(t) for 0 <= t < threads, side by side. MLANET_STD_THREADS is for ThreadSanitizer, which does not see that
// OpenMP waits.
template <class Work> void side_by_side(int64_t threads, Work work) {
#ifdef MLANET_STD_THREADS
    std::vector<std::thread> others;
    for (int64_t t = 1; t < threads; ++t) others.emplace_back([&work, t] { work(t); });
    work(0);
    for (std::thread& one : others) one.join();
#else
#ifdef _OPENMP
#pragma omp parallel for num_threads(threads) schedule(static, 1)
#endif
    for (int64_t t = 0; t < threads; ++t) work(t);
#endif
}

// Centers of each thread: contiguous, with about the same number of edges.
template <class Work> void over_centers(int64_t centers, int64_t threads, const int64_t* start, Work work) {
    side_by_side(threads, [&](int64_t t) {
        auto bound = [&](int64_t k) {
            if (k == threads) return centers;
            return int64_t(std::lower_bound(start, start + centers, start[centers] * k / threads) - start);
        };
        work(t, bound(t), bound(t + 1));
    });
}

// Nodes of each thread: contiguous.
template <class Work> void over_nodes(int64_t nodes, int64_t threads, Work work) {
    side_by_side(threads, [&](int64_t t) { work(t, nodes * t / threads, nodes * (t + 1) / threads); });
}

}  // namespace mlanet
