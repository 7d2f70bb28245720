// What shapes a network, from a file's header; every number is bounded before anything is built from it.
#pragma once
#include "layer.hpp"
#include "readout.hpp"

namespace mlanet {

struct MLANetSettings {
    int64_t l_max, channels, layers, heads, key_dim, bessel, bonds, hidden, gate_channels;
    std::vector<int64_t> radial_hidden;
    bool full, sum, product, normed, local_pooling, bonded, attends, once, turned;
    double mean_neighbors, pooling_bound;

    COLD explicit MLANetSettings(const Json& s)
        : l_max(s["l_max"].whole(1, 3)), channels(s["channels"].whole(1, 4096)), layers(s["layers"].whole(1, 64)),
          heads(s["heads"].whole(1, 1024)), key_dim(s["key_dim"].whole(1, 1024)), bessel(s["radial_functions"].whole(1, 512)),
          bonds(s["bond_functions"].whole(0, 512)), hidden(s["hidden"].whole(1, 8192)),
          gate_channels(s["gate_channels"].whole(1, 4096)), full(s.word("message", {"light", "full"})),
          sum(s.word("combine", {"product", "sum"})), product(s.word("node_product", {"none", "uuu"})),
          normed(s.word("norm", {"none", "rms"})), local_pooling(s.word("pooling", {"sum", "local"})),
          bonded(s.word("bonded", {"none", "learned"})), attends(s.word("attention", {"none", "tp_dot"}, "tp_dot")),
          once(s.word("attention_envelope", {"twice", "once"}, "twice")),
          turned(s.word("output_gate", {"none", "head"}, "none")), mean_neighbors(s["mean_neighbors"].number()),
          pooling_bound(s["pooling_bound"].is_nothing() ? 0.0 : s["pooling_bound"].number()) {
        for (const Json& width : s["radial_hidden"].list()) radial_hidden.push_back(width.whole(1, 8192));
        if (radial_hidden.size() >= size_t(MAX_DEPTH)) throw Error("the header has too many radial_hidden");
        if (channels % heads || channels % gate_channels)
            throw Error("heads and gate_channels must divide the channels");
        if (full && sum) throw Error("message: full goes with combine: product");
        if (!(mean_neighbors > 0)) throw Error("mean_neighbors must be positive");
        if (!(pooling_bound > 0) && !s["pooling_bound"].is_nothing()) throw Error("pooling_bound must be positive");
    }
    int64_t functions() const { return bessel + bonds; }
    ReadoutSettings readout() const { return {channels, channels, 1, local_pooling, mean_neighbors, pooling_bound}; }
    LayerSettings layer(int64_t l_out) const {
        return {channels, heads,   key_dim, functions(), hidden,         gate_channels, radial_hidden, full,
                sum,      product, normed,  mean_neighbors, l_out,       attends,       once,          turned};
    }
};

// Paths (a, b, c) of natural parity with a <= b, of a product of features with themselves.
COLD inline int64_t product_paths(int l_in, int l_out) {
    int64_t found = 0;
    for (int c = 0; c <= l_out; ++c)
        for (int a = 0; a <= l_in; ++a)
            for (int b = a; b <= l_in; ++b) found += c >= b - a && c <= a + b && (a + b + c) % 2 == 0;
    return found;
}

// The terms of h ⊗ h, as mlanet/ops/node_product/reference.py lists them.
template <class T> COLD void read_terms(const ModelFile& file, const std::string& name, int l_in, int l_out, TermTable<T>& to) {
    const int64_t count = file.length(name + ".value"), paths = product_paths(l_in, l_out);
    const int64_t rows_in = (l_in + 1) * (l_in + 1), rows_out = (l_out + 1) * (l_out + 1);
    to.begin = file.indices(name + ".begin", {paths + 1}, count + 1);
    to.row = file.indices(name + ".row", {count}, rows_out);
    to.first = file.indices(name + ".first", {count}, rows_in), to.second = file.indices(name + ".second", {count}, rows_in);
    to.value = file.numbers<T>(name + ".value", {count});
    if (to.begin.front() != 0 || to.begin.back() != count || !std::is_sorted(to.begin.begin(), to.begin.end()))
        throw Error("tensor '" + name + ".begin' does not tell where paths begin");
}

// The couplings of full messages, as mlanet/ops/tensor_product.py lists them.
template <class T> COLD void read_couplings(const ModelFile& file, int l_max, CouplingTable<T>& to) {
    const int64_t count = file.length("couplings.value"), rows = (l_max + 1) * (l_max + 1);
    const int entries[] = {0, Paths<1>::first(Paths<1>::count()), Paths<2>::first(Paths<2>::count()),
                           Paths<3>::first(Paths<3>::count())};
    to.entry = file.indices("couplings.entry", {count}, entries[l_max]);
    to.row = file.indices("couplings.row", {count}, rows), to.value = file.numbers<T>("couplings.value", {count});
    if (!std::is_sorted(to.entry.begin(), to.entry.end())) throw Error("tensor 'couplings.entry' is not sorted");
    to.view = {count, to.entry.data(), to.row.data(), to.value.data()};
}

}  // namespace mlanet
