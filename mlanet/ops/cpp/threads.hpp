// Who works on which atoms: every thread on neighbouring ones, so that sums depend on nothing but their number.
#pragma once
#include <algorithm>
#include <cstdint>

namespace mlanet {

// Centers of each thread: contiguous, with about the same number of edges.
template <class Work> void over_centers(int64_t centers, int64_t threads, const int64_t* start, Work work) {
#ifdef _OPENMP
#pragma omp parallel num_threads(threads)
#endif
    {
#ifdef _OPENMP
#pragma omp for schedule(static, 1)
#endif
        for (int64_t t = 0; t < threads; ++t) {
            auto bound = [&](int64_t k) {
                if (k == threads) return centers;
                return int64_t(std::lower_bound(start, start + centers, start[centers] * k / threads) - start);
            };
            work(t, bound(t), bound(t + 1));
        }
    }
}

// Nodes of each thread: contiguous.
template <class Work> void over_nodes(int64_t nodes, int64_t threads, Work work) {
#ifdef _OPENMP
#pragma omp parallel for num_threads(threads) schedule(static, 1)
#endif
    for (int64_t t = 0; t < threads; ++t) work(t, nodes * t / threads, nodes * (t + 1) / threads);
}

}  // namespace mlanet
