// What Python calls (mlanet/ops/cpp/calls.py): REAL and DEGREE are given when this file is compiled.
#include "directions.hpp"
#include "filtered.hpp"
#include "message.hpp"
#include "product.hpp"
#include "pooling.hpp"
#include "threads.hpp"

using namespace mlanet;
using T = REAL;
constexpr int L = DEGREE, M = (L + 1) * (L + 1);

namespace {

template <class Values, int P>
void message(const Sizes& s, const Graph& graph, const Given<T, P>& given, const Weights<T>& weights, T* out) {
    over_centers(s.centers, s.threads, graph.start, [&](int64_t, int64_t first, int64_t last) {
        Message<Values> work(s, given, weights, graph);
        for (int64_t i = first; i < last; ++i) work.message(i, out + i * M * s.channels);
    });
}

template <class Values, int P>
void gradient(const Sizes& s, const Graph& graph, const Given<T, P>& given, const Weights<T>& weights, const T* up,
              const Sums<T>& to) {
    over_centers(s.centers, s.threads, graph.start, [&](int64_t t, int64_t first, int64_t last) {
        Message<Values> work(s, given, weights, graph);
        const Sums<T> own = of_thread<T, L>(to, s, t);
        for (int64_t i = first; i < last; ++i) work.gradient(i, up + i * M * s.channels, own);
    });
}

template <int P>
void directions_gradient(const DirectionSizes& s, const Graph& graph, const DirectionInputs<T, P>& given,
                         const T* const* mlp, const T* up, const DirectionSums<T>& to) {
    RadialWeights<T> weights;
    weights.pack(s.depth, s.widths, mlp);
    over_centers(s.centers, s.threads, graph.start, [&](int64_t t, int64_t first, int64_t last) {
        Directions<T, L, P> work(s, given, weights, graph);
        DirectionSums<T> own = to;
        own.sender += t * s.atoms * s.channels;
        for (int64_t k = 0; k < s.depth; ++k)
            if (own.mlp[k]) own.mlp[k] += t * s.widths[k] * s.widths[k + 1];
        for (int64_t i = first; i < last; ++i) work.gradient(i, up + i * (M - 1) * s.channels, own);
    });
}

template <int P>
void pooling_gradient(const PoolingSizes& s, const Graph& graph, const PoolingInputs<T, P>& given, const T* up,
                    const PoolingSums<T>& to) {
    over_centers(s.centers, s.threads, graph.start, [&](int64_t t, int64_t first, int64_t last) {
        const Pooling<T, P> work(s, given, graph.neighbor, graph.start);
        PoolingSums<T> own = to;
        own.features += t * s.atoms * s.channels;
        for (int64_t i = first; i < last; ++i) work.gradient(i, up + i * 2 * s.channels, own);
    });
}

void pack(const FilterSizes& s, const T* weight, RadialWeights<T>& weights) {
    const int64_t widths[] = {s.functions, (s.vectors ? 3 : 2) * s.channels};
    weights.pack(1, widths, &weight);
}

template <int P>
void filtered_gradient(const FilterSizes& s, const Graph& graph, const FilterInputs<T, P>& given, const T* weight,
                       const T* up, const FilterSums<T>& to) {
    RadialWeights<T> weights;
    pack(s, weight, weights);
    over_centers(s.centers, s.threads, graph.start, [&](int64_t t, int64_t first, int64_t last) {
        FilteredSum<T, P> work(s, given, weights, graph);
        FilterSums<T> own = to;
        own.sent += t * s.atoms * (s.vectors ? 5 : 2) * s.channels;
        if (own.weight) own.weight += t * s.functions * weights.outputs();
        for (int64_t i = first; i < last; ++i) work.gradient(i, up + i * 4 * s.channels, own);
    });
}

template <int P>
void product_gradient(const ProductSizes& s, const Terms<T>& terms, const T* weight, Array<T, P> features, const T* up,
                      const ProductSums<T>& to) {
    over_nodes(s.nodes, s.threads, [&](int64_t t, int64_t first, int64_t last) {
        const NodeProduct<T, P> work(s, terms, features, weight);
        ProductSums<T> own = to;
        if (own.weight) own.weight += t * s.paths * s.channels;
        for (int64_t i = first; i < last; ++i) work.gradient(i, up + i * s.rows_out * s.channels, own);
    });
}

}  // namespace

extern "C" {

int64_t mlanet_lanes() { return Lanes<T>::width; }

// Light values, or full ones if there are couplings.
void mlanet_message(const Sizes* s, const Graph* graph, const Couplings<T>* couplings, const Given<T, 1>* given,
                    const RawWeights<T>* raw, T* out) {
    Weights<T> weights;
    pack<T, L>(*s, *raw, couplings, weights);
    if (couplings) message<FullValues<T, L, 1>, 1>(*s, *graph, *given, weights, out);
    else message<LightValues<T, L, 1>, 1>(*s, *graph, *given, weights, out);
}

void mlanet_message_gradient(const Sizes* s, const Graph* graph, const Couplings<T>* couplings,
                             const Given<T, 1>* given, const RawWeights<T>* raw, const T* up, const Sums<T>* to) {
    Weights<T> weights;
    pack<T, L>(*s, *raw, couplings, weights);
    if (couplings) gradient<FullValues<T, L, 1>, 1>(*s, *graph, *given, weights, up, *to);
    else gradient<LightValues<T, L, 1>, 1>(*s, *graph, *given, weights, up, *to);
}

void mlanet_message_tangent(const Sizes* s, const Graph* graph, const Couplings<T>* couplings,
                            const Given<T, 2>* given, const RawWeights<T>* raw, const T* up, const Sums<T>* to) {
    Weights<T> weights;
    pack<T, L>(*s, *raw, couplings, weights);
    if (couplings) gradient<FullValues<T, L, 2>, 2>(*s, *graph, *given, weights, up, *to);
    else gradient<LightValues<T, L, 2>, 2>(*s, *graph, *given, weights, up, *to);
}

void mlanet_directions(const DirectionSizes* s, const Graph* graph, const DirectionInputs<T, 1>* given,
                       const T* const* mlp, T* out) {
    RadialWeights<T> weights;
    weights.pack(s->depth, s->widths, mlp);
    over_centers(s->centers, s->threads, graph->start, [&](int64_t, int64_t first, int64_t last) {
        Directions<T, L, 1> work(*s, *given, weights, *graph);
        for (int64_t i = first; i < last; ++i) work.message(i, out + i * (M - 1) * s->channels);
    });
}

void mlanet_directions_gradient(const DirectionSizes* s, const Graph* graph, const DirectionInputs<T, 1>* given,
                                const T* const* mlp, const T* up, const DirectionSums<T>* to) {
    directions_gradient<1>(*s, *graph, *given, mlp, up, *to);
}

void mlanet_directions_tangent(const DirectionSizes* s, const Graph* graph, const DirectionInputs<T, 2>* given,
                               const T* const* mlp, const T* up, const DirectionSums<T>* to) {
    directions_gradient<2>(*s, *graph, *given, mlp, up, *to);
}

void mlanet_pooling(const PoolingSizes* s, const Graph* graph, const PoolingInputs<T, 1>* given, T* out) {
    over_centers(s->centers, s->threads, graph->start, [&](int64_t, int64_t first, int64_t last) {
        const Pooling<T, 1> work(*s, *given, graph->neighbor, graph->start);
        for (int64_t i = first; i < last; ++i) work.value(i, out + i * 2 * s->channels);
    });
}

void mlanet_pooling_gradient(const PoolingSizes* s, const Graph* graph, const PoolingInputs<T, 1>* given, const T* up,
                           const PoolingSums<T>* to) {
    pooling_gradient<1>(*s, *graph, *given, up, *to);
}

void mlanet_pooling_tangent(const PoolingSizes* s, const Graph* graph, const PoolingInputs<T, 2>* given, const T* up,
                          const PoolingSums<T>* to) {
    pooling_gradient<2>(*s, *graph, *given, up, *to);
}

void mlanet_filtered(const FilterSizes* s, const Graph* graph, const FilterInputs<T, 1>* given, const T* weight,
                     T* out) {
    RadialWeights<T> weights;
    pack(*s, weight, weights);
    over_centers(s->centers, s->threads, graph->start, [&](int64_t, int64_t first, int64_t last) {
        FilteredSum<T, 1> work(*s, *given, weights, *graph);
        for (int64_t i = first; i < last; ++i) work.value(i, out + i * 4 * s->channels);
    });
}

void mlanet_filtered_gradient(const FilterSizes* s, const Graph* graph, const FilterInputs<T, 1>* given,
                              const T* weight, const T* up, const FilterSums<T>* to) {
    filtered_gradient<1>(*s, *graph, *given, weight, up, *to);
}

void mlanet_filtered_tangent(const FilterSizes* s, const Graph* graph, const FilterInputs<T, 2>* given,
                             const T* weight, const T* up, const FilterSums<T>* to) {
    filtered_gradient<2>(*s, *graph, *given, weight, up, *to);
}

void mlanet_product(const ProductSizes* s, const Terms<T>* terms, const T* weight, const Array<T, 1>* features, T* out) {
    over_nodes(s->nodes, s->threads, [&](int64_t, int64_t first, int64_t last) {
        const NodeProduct<T, 1> work(*s, *terms, *features, weight);
        for (int64_t i = first; i < last; ++i) work.product(i, out + i * s->rows_out * s->channels);
    });
}

void mlanet_product_gradient(const ProductSizes* s, const Terms<T>* terms, const T* weight, const Array<T, 1>* features,
                             const T* up, const ProductSums<T>* to) {
    product_gradient<1>(*s, *terms, weight, *features, up, *to);
}

void mlanet_product_tangent(const ProductSizes* s, const Terms<T>* terms, const T* weight, const Array<T, 2>* features,
                            const T* up, const ProductSums<T>* to) {
    product_gradient<2>(*s, *terms, weight, *features, up, *to);
}
}
