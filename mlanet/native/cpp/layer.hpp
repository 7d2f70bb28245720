// One interaction layer of MLANet: h + Linear(m(ĥ)), + Linear(ĥ ⊗ ĥ), + Linear(Gate(Linear(h))); and its gradient.
//
// The equations are those of mlanet/nn/dual_path.py and equivariant.py; messages and products are the kernels of
// mlanet/ops/cpp. Atoms go through in blocks that stay in the cache.
#pragma once
#include <cmath>

#include "../../ops/cpp/message.hpp"
#include "../../ops/cpp/product.hpp"
#include "dense.hpp"
#include "step.hpp"

namespace mlanet {

struct LayerSettings {
    int64_t channels, heads, key_dim, functions, hidden, gate_channels;
    std::vector<int64_t> radial_hidden;
    bool full, sum, product, normed;
    double mean_neighbors;
    int64_t l_out;
    bool attends, once, turned;  // whether neighbours are weighed by logits; u in the softmax only; output_gate: head
    int64_t attending() const { return attends ? heads : 0; }
};

template <class T> struct TermTable {
    std::vector<int32_t> begin, row, first, second;
    std::vector<T> value;
    Terms<T> view() const { return {begin.data(), row.data(), first.data(), second.data(), value.data()}; }
};

template <class T> struct CouplingTable {
    std::vector<int32_t> entry, row;
    std::vector<T> value;
    Couplings<T> view{};
};

template <class T, int L> class Layer {
  public:
    static constexpr int M = (L + 1) * (L + 1), W = Lanes<T>::width;
    static constexpr int64_t MOST_KEPT = int64_t(1) << 25;  // bytes

    COLD Layer(const ModelFile& file, const std::string& name, const LayerSettings& s, const CouplingTable<T>* couplings,
          const TermTable<T>* terms)
        : s_(s), terms_(terms), channels_(whole<T>(s.channels)), keys_(whole<T>(s.attending() * s.key_dim)),
          hidden_(whole<T>(s.hidden)), rows_out_((s.l_out + 1) * (s.l_out + 1)) {
        read_message(file, name, couplings);
        const int64_t c = s.channels;
        value_.read(file, name + ".value", L, c, c), mix_.read(file, name + ".mix", L, c, c);
        if (s.attends) query_.read(file, name + ".query", L, c, s.heads * s.key_dim);
        if (s.attends) key_.read(file, name + ".key", L, c, s.heads * s.key_dim);
        if (s.turned) turn_.read(file, name + ".output_gate", c, 1, c, true);
        near_.read(file, name + ".near", c, 1, s.hidden, false), here_.read(file, name + ".here", c, 1, s.hidden, true);
        if (s.normed) attention_norm_.read(file, name + ".attention_norm", c);
        if (s.product) read_product(file, name);
        update_in_.read(file, name + ".update_in", s.l_out, c, c), update_out_.read(file, name + ".update_out", s.l_out, c, c);
        if (s.l_out) gates_.read(file, name + ".update_gates", c, s.l_out, c, true);
    }

    int64_t rows_out() const { return rows_out_; }
    int64_t largest_width() const { return std::max(M * std::max(channels_, keys_), hidden_); }
    const T* output() const { return out_; }

    // h (n_local, M, C), which has to stay until `backward`, -> `output` (n_local, rows_out, C).
    void forward(const Step<T>& step, const T* h) {
        take(step, h);
        over_blocks(step, [&](Room& room, int64_t first, int64_t n) { before(room, first, n); });
        step.forward(given_.sent.v, M * channels_), step.forward(given_.near.v, hidden_);
        if (keys_) step.forward(given_.key.v, M * keys_);
        messages(step);
        over_blocks(step, [&](Room& room, int64_t first, int64_t n) { after(room, first, n); });
    }

    // up (n_local, rows_out, C) -> to (n_local, M, C); both are overwritten.
    void backward(const Step<T>& step, const T* up, T* to, const PairSums<T>& pairs) {
        up_message_ = up_message_store_.take(sizes_.centers * M * channels_ + 1);
        over_blocks(step, [&](Room& room, int64_t first, int64_t n) { after_back(room, first, n, up, to); });
        messages_back(step, pairs);
        step.reverse(sums_.sent, M * channels_), step.reverse(sums_.near, hidden_);
        if (keys_) step.reverse(sums_.key, M * keys_);
        over_blocks(step, [&](Room& room, int64_t first, int64_t n) { before_back(room, first, n, to); });
    }

  private:
    using Room = mlanet::Room<T>;
    using Light = Message<LightValues<T, L, 1>>;
    using Full = Message<FullValues<T, L, 1>>;

    LayerSettings s_;
    const TermTable<T>* terms_;
    int64_t channels_, keys_, hidden_, rows_out_, paths_ = 0;
    DegreeLinear<T> value_, query_, key_, mix_, product_linear_, update_in_, update_out_;
    ScalarLinear<T> near_, here_, gates_, turn_;
    Norm<T, L> attention_norm_, product_norm_;
    std::vector<T> path_weights_, gates_bias_, logits_bias_, temperature_;
    Weights<T> weights_;
    Sizes sizes_{};
    Graph graph_{};
    Given<T, 1> given_{};
    Sums<T> sums_{};
    const T* h_ = nullptr;
    T *out_ = nullptr, *mixed_ = nullptr, *hidden_state_ = nullptr, *gate_ = nullptr, *message_ = nullptr, *up_message_ = nullptr;
    T *turned_ = nullptr, *to_turn_ = nullptr;  // σ of what turns messages down or up (n_local, C), and gradients before it
    Buffer<T> sent_, key_store_, near_store_, query_store_, here_store_, message_store_, mixed_store_, state_store_,
        gate_store_, out_store_, up_message_store_, to_sent_, to_key_, to_near_, to_query_, to_here_, turn_store_, to_turn_store_,
        kept_;
    std::vector<std::unique_ptr<Light>> light_;
    std::vector<std::unique_ptr<Full>> full_;
    Rooms<T> rooms_;

    COLD void read_message(const ModelFile& file, const std::string& name, const CouplingTable<T>* couplings) {
        const int64_t c = s_.channels, gates = c / s_.gate_channels, logits = s_.attending() * (2 * L + 2);
        const int64_t groups = s_.full ? Paths<L>::count() : 2 * (L + 1), gate_width = whole<T>(gates);
        const auto chemical = padded(file.numbers<T>(name + ".chemical", {s_.functions, s_.hidden}), 1, s_.functions, 1,
                                     s_.hidden, s_.functions, hidden_);
        const auto gate = padded(file.numbers<T>(name + ".gates.weight", {(L + 1) * gates, s_.hidden}), L + 1, gates, 1,
                                 s_.hidden, gate_width, hidden_);
        gates_bias_ = padded(file.numbers<T>(name + ".gates.bias", {(L + 1) * gates}), 1, 1, L + 1, gates, 1, gate_width);
        std::vector<T> logit;
        if (s_.attends) {
            logit = padded(file.numbers<T>(name + ".logits.weight", {logits, s_.hidden}), 1, logits, 1, s_.hidden, logits, hidden_);
            logits_bias_ = file.numbers<T>(name + ".logits.bias", {logits});
            temperature_ = file.numbers<T>(name + ".log_temperature", {s_.heads});
        }
        const auto layers = radial_layers<T>(file, name + ".radial", s_.functions, s_.radial_hidden, groups, c);
        sizes_.channels = channels_, sizes_.gates = gate_width, sizes_.gate_channels = s_.gate_channels;
        sizes_.per_head = s_.attends ? c / s_.heads : c, sizes_.heads = s_.attending(), sizes_.key_dim = s_.key_dim;
        sizes_.keys = keys_, sizes_.envelope_once = s_.once;
        sizes_.uniform_scale = s_.attends ? 0.0 : 1 / std::sqrt(s_.mean_neighbors);
        sizes_.hidden = hidden_, sizes_.functions = s_.functions, sizes_.depth = int64_t(layers.weights.size());
        std::copy(layers.widths.begin(), layers.widths.end(), sizes_.widths);
        sizes_.chemical_scale = s_.sum ? 1 / std::sqrt(s_.mean_neighbors) : 0.0;
        RawWeights<T> raw{chemical.data(), gate.data(), gates_bias_.data(), logit.data(), logits_bias_.data(),
                          temperature_.data(), {}};
        for (size_t k = 0; k < layers.weights.size(); ++k) raw.mlp[k] = layers.weights[k].data();
        pack<T, L>(sizes_, raw, s_.full ? &couplings->view : nullptr, weights_);
    }

    COLD void read_product(const ModelFile& file, const std::string& name) {
        paths_ = int64_t(terms_->begin.size()) - 1;
        path_weights_ = padded(file.numbers<T>(name + ".product", {paths_, s_.channels}), 1, paths_, 1, s_.channels, paths_,
                               channels_);
        product_linear_.read(file, name + ".product_linear", s_.l_out, s_.channels, s_.channels);
        if (s_.normed) product_norm_.read(file, name + ".product_norm", s_.channels);
    }

    // Places of this structure's size; messages begin as zeros.
    COLD void take(const Step<T>& step, const T* h) {
        const int64_t n = step.structure->n_local, all = step.structure->n_total;
        sizes_.centers = n, sizes_.atoms = all, sizes_.threads = step.threads;
        graph_ = {step.structure->neighbor, step.structure->start}, h_ = h;
        given_.sent = {sent_.take(all * M * channels_ + 1)}, given_.key = {key_store_.take(all * M * keys_ + 1)};
        given_.near = {near_store_.take(all * hidden_ + 1)}, given_.query = {query_store_.take(n * M * keys_ + 1)};
        given_.here = {here_store_.take(n * hidden_ + 1)}, given_.factor = {step.factor};
        given_.envelope = {step.envelope}, given_.radial = {step.basis}, given_.harmonics = {step.angular};
        message_ = message_store_.take(n * M * channels_ + 1), mixed_ = mixed_store_.take(n * M * channels_ + 1);
        hidden_state_ = state_store_.take(n * rows_out_ * channels_ + 1), out_ = out_store_.take(n * rows_out_ * channels_ + 1);
        gate_ = gate_store_.take(n * s_.l_out * channels_ + 1);
        if (s_.turned) turned_ = turn_store_.take(n * channels_ + 1), to_turn_ = to_turn_store_.take(n * channels_ + 1);
        while (int64_t(std::max(full_.size(), light_.size())) < step.threads) {
            if (s_.full) full_.push_back(std::make_unique<Full>(sizes_, given_, weights_, graph_));
            else light_.push_back(std::make_unique<Light>(sizes_, given_, weights_, graph_));
        }
        for (auto& one : light_) keep(*one);
        for (auto& one : full_) keep(*one);
    }

    // The attention for the way back: a twentieth of a step less, as long as there is room.
    template <class Values> void keep(Values& message) {
        const int64_t size = graph_.start[sizes_.centers] * message.kept_row();
        message.keep_at(size <= MOST_KEPT / int64_t(sizeof(T)) ? kept_.take(size + W) : nullptr);
    }

    template <class Work> void over_blocks(const Step<T>& step, Work work) {
        rooms_.over_blocks(sizes_.centers, step.threads, work);
    }

    template <class Work> void over_messages(const Step<T>& step, Work work) {
        over_centers(sizes_.centers, step.threads, graph_.start, [&](int64_t t, int64_t first, int64_t last) {
            if (s_.full) work(*full_[t], t, first, last);
            else work(*light_[t], t, first, last);
        });
    }

    void messages(const Step<T>& step) {
        over_messages(step, [&](auto& message, int64_t, int64_t first, int64_t last) {
            std::fill(message_ + first * M * channels_, message_ + last * M * channels_, T(0));
            for (int64_t i = first; i < last; ++i) message.message(i, message_ + i * M * channels_);
        });
    }

    void messages_back(const Step<T>& step, const PairSums<T>& pairs) {
        const int64_t n = sizes_.centers, all = sizes_.atoms, t = step.threads;
        const int64_t sizes[] = {all * M * channels_, all * M * keys_, all * hidden_};
        T** places[] = {&sums_.sent, &sums_.key, &sums_.near};
        Buffer<T>* stores[] = {&to_sent_, &to_key_, &to_near_};
        for (int k = 0; k < 3; ++k) *places[k] = stores[k]->take(t * sizes[k] + 1);
        sums_.query = to_query_.take(n * M * keys_ + 1), sums_.here = to_here_.take(n * hidden_ + 1);
        sums_.factor = pairs.factor, sums_.envelope = pairs.envelope;
        sums_.radial = pairs.basis, sums_.harmonics = pairs.angular;
        over_messages(step, [&](auto& message, int64_t k, int64_t first, int64_t last) {
            const Sums<T> own = of_thread<T, L>(sums_, sizes_, k);
            std::fill_n(own.sent, sizes[0], T(0)), std::fill_n(own.key, sizes[1], T(0)), std::fill_n(own.near, sizes[2], T(0));
            for (int64_t i = first; i < last; ++i) message.gradient(i, up_message_ + i * M * channels_, own);
        });
        for (int k = 0; k < 3; ++k) join<T>(*places[k], sizes[k], t);
    }

    // Atoms first … first + n − 1: what they send, ask and hold.
    void before(Room& room, int64_t first, int64_t n) {
        const T* x = h_ + first * M * channels_;
        if (s_.normed) {
            T* normed = room.take(0, BLOCK * M * channels_);
            for (int64_t i = 0; i < n; ++i) attention_norm_.forward(x + i * M * channels_, normed + i * M * channels_);
            x = normed;
        }
        value_.forward(n, x, M, given_.sent.v + first * M * channels_, M);
        if (s_.attends) {
            key_.forward(n, x, M, given_.key.v + first * M * keys_, M);
            query_.forward(n, x, M, given_.query.v + first * M * keys_, M);
        }
        near_.forward(n, x, M * channels_, given_.near.v + first * hidden_, hidden_);
        here_.forward(n, x, M * channels_, given_.here.v + first * hidden_, hidden_);
        if (!s_.turned) return;
        turn_.forward(n, x, M * channels_, turned_ + first * channels_, channels_);
        for (int64_t k = first * channels_; k < (first + n) * channels_; k += W)
            store<T>(turned_ + k, sigmoid<T>(load<T>(turned_ + k)));
    }

    void before_back(Room& room, int64_t first, int64_t n, T* to) {
        T* normed = room.take(0, BLOCK * M * channels_);
        value_.backward(n, sums_.sent + first * M * channels_, M, normed, M);
        if (s_.attends) {
            key_.backward(n, sums_.key + first * M * keys_, M, normed, M, true);
            query_.backward(n, sums_.query + first * M * keys_, M, normed, M, true);
        }
        near_.backward(n, sums_.near + first * hidden_, hidden_, normed, M * channels_, true);
        here_.backward(n, sums_.here + first * hidden_, hidden_, normed, M * channels_, true);
        if (s_.turned) turn_.backward(n, to_turn_ + first * channels_, channels_, normed, M * channels_, true);
        for (int64_t i = first; i < first + n; ++i, normed += M * channels_) {
            T* place = to + i * M * channels_;
            if (s_.normed) attention_norm_.backward(h_ + i * M * channels_, normed, place);
            else plus<T>(M * channels_, normed, place);
        }
    }

    // What follows the message: mix, product, update.
    void after(Room& room, int64_t first, int64_t n) {
        const int64_t wide = M * channels_, narrow = rows_out_ * channels_;
        T* mixed = mixed_ + first * wide;
        std::copy_n(h_ + first * wide, n * wide, mixed);
        mix_.forward(n, s_.turned ? turned(room, first, n) : message_ + first * wide, M, mixed, M, true);
        T* whole = room.take(0, BLOCK * narrow);
        for (int64_t i = 0; i < n; ++i) std::copy_n(mixed + i * wide, narrow, whole + i * narrow);
        if (s_.product) {
            T* made = room.take(1, BLOCK * narrow);
            with_product(room, mixed, n, [&](auto& product, int64_t i) { product.product(i, made + i * narrow); });
            product_linear_.forward(n, made, rows_out_, whole, rows_out_, true);
        }
        T *state = hidden_state_ + first * narrow, *acted = room.take(1, BLOCK * narrow), *gate = gate_ + first * gates_.width();
        update_in_.forward(n, whole, rows_out_, state, rows_out_);
        if (s_.l_out) gates_.forward(n, whole, narrow, gate, gates_.width());
        for (int64_t k = 0; k < n * gates_.width(); k += W) store<T>(gate + k, sigmoid<T>(load<T>(gate + k)));
        for (int64_t i = 0; i < n; ++i, state += narrow, acted += narrow, gate += gates_.width()) {
            silu_forward<T>(channels_, state, acted);
            each_gated([&](int64_t k, int64_t g) { store<T>(acted + k, load<T>(state + k) * load<T>(gate + g)); });
        }
        std::copy_n(whole, n * narrow, out_ + first * narrow);
        update_out_.forward(n, room.take(1, 0), rows_out_, out_ + first * narrow, rows_out_, true);
    }

    // Leaves in `to` the gradient that passes by the message, and in `up_message_` that in the message.
    void after_back(Room& room, int64_t first, int64_t n, const T* up, T* to) {
        const int64_t wide = M * channels_, narrow = rows_out_ * channels_, gates = gates_.width();
        T *to_whole = room.take(0, BLOCK * narrow), *acted = room.take(1, BLOCK * narrow);
        T* to_gate = room.take(2, BLOCK * gates + 1);
        std::copy_n(up + first * narrow, n * narrow, to_whole);
        update_out_.backward(n, to_whole, rows_out_, acted, rows_out_);
        std::fill_n(to_gate, n * gates, T(0));
        for (int64_t i = 0; i < n; ++i) {
            const T *state = hidden_state_ + (first + i) * narrow, *gate = gate_ + (first + i) * gates;
            T *above = acted + i * narrow, *to_own = to_gate + i * gates;
            silu_backward<T>(channels_, state, above, above);
            each_gated([&](int64_t k, int64_t g) {
                const Vector<T> one = load<T>(above + k), by = load<T>(gate + g);
                store<T>(to_own + g, load<T>(to_own + g) + one * load<T>(state + k) * by * (T(1) - by));
                store<T>(above + k, one * by);
            });
        }
        update_in_.backward(n, acted, rows_out_, to_whole, rows_out_, true);
        if (s_.l_out) gates_.backward(n, to_gate, gates, to_whole, narrow, true);
        T* place = to + first * wide;
        std::fill_n(place, n * wide, T(0));
        if (s_.product) product_back(room, first, n, to_whole, place);
        for (int64_t i = 0; i < n; ++i) plus<T>(narrow, to_whole + i * narrow, place + i * wide);
        mix_.backward(n, place, M, up_message_ + first * wide, M);
        if (s_.turned) turn_back(first, n);
    }

    // Messages of n atoms times 2 σ(w s + b) of their own scalars.
    const T* turned(Room& room, int64_t first, int64_t n) {
        T* to = room.take(3, BLOCK * M * channels_);
        each_turned(first, n, [&](int64_t k, int64_t g) {
            store<T>(to + k - first * M * channels_, load<T>(message_ + k) * load<T>(turned_ + g) * T(2));
        });
        return to;
    }

    // From those to the messages, in their place, and to w s + b.
    void turn_back(int64_t first, int64_t n) {
        std::fill_n(to_turn_ + first * channels_, n * channels_, T(0));
        each_turned(first, n, [&](int64_t k, int64_t g) {
            const Vector<T> up = load<T>(up_message_ + k), by = load<T>(turned_ + g), twice = by * T(2);
            store<T>(to_turn_ + g, load<T>(to_turn_ + g) + up * load<T>(message_ + k) * twice * (T(1) - by));
            store<T>(up_message_ + k, up * twice);
        });
    }

    // Calls work(place in messages, place in what turns them) for all vectors of n atoms.
    template <class Work> void each_turned(int64_t first, int64_t n, Work work) const {
        for (int64_t i = first; i < first + n; ++i)
            for (int64_t m = 0; m < M; ++m)
                for (int64_t c = 0; c < channels_; c += W) work((i * M + m) * channels_ + c, i * channels_ + c);
    }

    void product_back(Room& room, int64_t first, int64_t n, const T* to_whole, T* to) {
        const int64_t wide = M * channels_, narrow = rows_out_ * channels_;
        T *up = room.take(1, BLOCK * narrow), *to_factor = room.take(2, BLOCK * wide);
        const T* mixed = mixed_ + first * wide;
        product_linear_.backward(n, to_whole, rows_out_, up, rows_out_);
        const ProductSums<T> sums{nullptr, to_factor, nullptr};
        with_product(room, mixed, n, [&](auto& product, int64_t i) { product.gradient(i, up + i * narrow, sums); });
        for (int64_t i = 0; i < n; ++i) {
            if (s_.normed) product_norm_.backward(mixed + i * wide, to_factor + i * wide, to + i * wide);
            else plus<T>(wide, to_factor + i * wide, to + i * wide);
        }
    }

    // The kernel on the normed features of n atoms, one after the other.
    template <class Work> void with_product(Room& room, const T* mixed, int64_t n, Work work) {
        const T* factor = mixed;
        if (s_.normed) {
            T* normed = room.take(3, BLOCK * M * channels_);
            for (int64_t i = 0; i < n; ++i) product_norm_.forward(mixed + i * M * channels_, normed + i * M * channels_);
            factor = normed;
        }
        const ProductSizes sizes{n, channels_, M, rows_out_, paths_, 1};
        const Terms<T> terms = terms_->view();
        const NodeProduct<T, 1> product(sizes, terms, {const_cast<T*>(factor)}, path_weights_.data());
        for (int64_t i = 0; i < n; ++i) work(product, i);
    }

    // Calls work(place in the rows of an atom, place in its gates) for all vectors of degrees above 0.
    template <class Work> void each_gated(Work work) const {
        for (int64_t l = 1; l <= s_.l_out; ++l)
            for (int64_t m = l * l; m < (l + 1) * (l + 1); ++m)
                for (int64_t c = 0; c < channels_; c += W) work(m * channels_ + c, (l - 1) * channels_ + c);
    }
};

}  // namespace mlanet
