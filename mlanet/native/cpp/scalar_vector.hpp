// One layer of LEIGNN, message and update, and its gradient; see mlanet/nn/scalar_vector.py for the equations.
//
// Features of an atom are rows of C numbers, its scalars x and then its vectors v_x, v_y, v_z. Vectors are 0 before the
// first layer and asked for by nobody after the last; there the features are the scalars alone.
#pragma once
#include <cmath>

#include "../../ops/cpp/filtered.hpp"
#include "dense.hpp"
#include "step.hpp"

namespace mlanet {

constexpr double SCALED_SILU = 1 / 0.6;  // a(x) = SiLU(x) / 0.6

enum class Invariant { soft, squared, norm };

struct ScalarVectorSettings {
    int64_t channels, functions;
    bool scaled, painn;
    Invariant invariant;
    bool first, last;
};

template <class T> class ScalarVectorLayer {
  public:
    static constexpr int W = Lanes<T>::width, ROWS = 4;

    COLD ScalarVectorLayer(const ModelFile& file, const std::string& name, const ScalarVectorSettings& s)
        : s_(s), channels_(whole<T>(s.channels)), rows_in_(s.first ? 1 : ROWS), rows_out_(s.last ? 1 : ROWS),
          sent_rows_(s.first ? 2 : 5), mixed_rows_(s.last && !s.painn ? 1 : 2) {
        const int64_t c = s.channels, filters = s.first ? 2 : 3;
        message_net_.read(file, name + ".message", 1, c, c / 2, filters, c);
        update_net_.read(file, name + ".update", 2, c, c, s.last ? 2 : 3, c);
        mix_.read(file, name + ".mix", c, mixed_rows_, c, false);
        const auto filter = radial_layers<T>(file, name + ".filter", s.functions, {}, filters, c);
        const T* raw = filter.weights[0].data();
        filter_.pack(1, filter.widths.data(), &raw);
        sizes_.channels = channels_, sizes_.functions = s.functions, sizes_.vectors = !s.first;
        if (s.scaled) of_messages_ = T(1 / std::sqrt(3.0)), of_vectors_ = T(1 / std::sqrt(double(c))), of_scalars_ = T(std::sqrt(0.5));
    }

    int64_t largest_width() const { return sent_rows_ * channels_; }
    const T* output() const { return out_; }

    // h (n_local, rows_in, C), which has to stay until `backward`, -> `output` (n_local, rows_out, C).
    void forward(const Step<T>& step, const T* h) {
        take(step, h);
        over_blocks(step, [&](Room<T>& room, int64_t first, int64_t n) { send(room, first, n); });
        step.forward(given_.sent.v, sent_rows_ * channels_);
        over_centers(sizes_.centers, step.threads, graph_.start, [&](int64_t t, int64_t first, int64_t last) {
            for (int64_t i = first; i < last; ++i) receive(*sums_[t], i);
        });
        over_blocks(step, [&](Room<T>& room, int64_t first, int64_t n) { update(room, first, n); });
    }

    // up (n_local, rows_out, C) -> to (n_local, rows_in, C).
    void backward(const Step<T>& step, const T* up, T* to, const PairSums<T>& pairs) {
        const int64_t all = sizes_.atoms * sent_rows_ * channels_;
        up_message_ = up_message_store_.take(sizes_.centers * ROWS * channels_ + 1);
        to_sent_ = to_sent_store_.take(step.threads * all + 1);
        over_blocks(step, [&](Room<T>& room, int64_t first, int64_t n) { update_back(room, first, n, up, to); });
        over_centers(sizes_.centers, step.threads, graph_.start, [&](int64_t t, int64_t first, int64_t last) {
            const FilterSums<T> own{nullptr, to_sent_ + t * all, pairs.basis, pairs.angular, nullptr};
            std::fill_n(own.sent, all, T(0));
            for (int64_t i = first; i < last; ++i) sums_[t]->gradient(i, up_message_ + i * ROWS * channels_, own);
        });
        join<T>(to_sent_, all, step.threads);
        step.reverse(to_sent_, sent_rows_ * channels_);
        over_blocks(step, [&](Room<T>& room, int64_t first, int64_t n) { send_back(room, first, n, to); });
    }

  private:
    using V = Vector<T>;

    ScalarVectorSettings s_;
    int64_t channels_, rows_in_, rows_out_, sent_rows_, mixed_rows_;
    T of_messages_ = 1, of_vectors_ = 1, of_scalars_ = 1;
    TwoLayers<T> message_net_{SCALED_SILU}, update_net_{SCALED_SILU};
    ScalarLinear<T> mix_;
    RadialWeights<T> filter_;
    FilterSizes sizes_{};
    FilterInputs<T, 1> given_{};
    Graph graph_{};
    const T* h_ = nullptr;
    // By atom: what becomes of vectors that are sent (C), states of both networks, m and m⃗ (4, C), V m⃗ and U m⃗
    // (3, mixed_rows, C), gates.
    T *carried_ = nullptr, *message_state_ = nullptr, *update_state_ = nullptr, *message_ = nullptr, *mixed_ = nullptr,
      *gates_ = nullptr, *out_ = nullptr, *up_message_ = nullptr, *to_sent_ = nullptr;
    Buffer<T> sent_store_, carried_store_, message_state_store_, update_state_store_, message_store_, mixed_store_, gates_store_,
        out_store_, up_message_store_, to_sent_store_;
    std::vector<std::unique_ptr<FilteredSum<T, 1>>> sums_;
    Rooms<T> rooms_;

    template <class Work> void over_blocks(const Step<T>& step, Work work) {
        rooms_.over_blocks(sizes_.centers, step.threads, work);
    }

    // Places of this structure's size.
    COLD void take(const Step<T>& step, const T* h) {
        const int64_t n = step.structure->n_local, all = step.structure->n_total, c = channels_;
        sizes_.centers = n, sizes_.atoms = all, sizes_.threads = step.threads;
        graph_ = {step.structure->neighbor, step.structure->start}, h_ = h;
        given_ = {{sent_store_.take(all * sent_rows_ * c + 1)}, {step.basis}, {step.angular}};
        carried_ = carried_store_.take(s_.first ? 1 : n * c + 1), message_ = message_store_.take(n * ROWS * c + 1);
        message_state_ = message_state_store_.take(n * message_net_.hidden() + 1);
        update_state_ = update_state_store_.take(n * update_net_.hidden() + 1);
        mixed_ = mixed_store_.take(n * 3 * mixed_rows_ * c + 1), gates_ = gates_store_.take(n * update_net_.width() + 1);
        out_ = out_store_.take(n * rows_out_ * c + 1);
        while (int64_t(sums_.size()) < step.threads)
            sums_.push_back(std::make_unique<FilteredSum<T, 1>>(sizes_, given_, filter_, graph_));
    }

    // Atoms first … first + n − 1: scalars, arrows and carried vectors for their neighbours.
    void send(Room<T>& room, int64_t first, int64_t n) {
        const int64_t wide = message_net_.width();
        T *made = room.take(0, BLOCK * wide), *acted = room.take(1, BLOCK * message_net_.hidden());
        message_net_.forward(n, h_ + first * rows_in_ * channels_, rows_in_ * channels_, message_state_ + first * message_net_.hidden(),
                             acted, made);
        for (int64_t i = first; i < first + n; ++i, made += wide)
            for (int64_t c = 0; c < channels_; c += W) {
                T* sent = given_.sent.v + i * sent_rows_ * channels_ + c;
                for (int k = 0; k < 2; ++k) store<T>(sent + k * channels_, load<T>(made + k * channels_ + c) * of_messages_);
                if (s_.first) continue;
                const V by = load<T>(made + 2 * channels_ + c) * of_messages_;
                store<T>(carried_ + i * channels_ + c, by);
                for (int x = 1; x < ROWS; ++x) store<T>(sent + (x + 1) * channels_, by * load<T>(feature(i, x) + c));
            }
    }

    void send_back(Room<T>& room, int64_t first, int64_t n, T* to) {
        const int64_t wide = message_net_.width(), row = rows_in_ * channels_;
        T *above = room.take(0, BLOCK * wide), *acted = room.take(1, BLOCK * message_net_.hidden());
        for (int64_t i = first; i < first + n; ++i) {
            T* to_made = above + (i - first) * wide;
            for (int64_t c = 0; c < channels_; c += W) {
                const T* up = to_sent_ + i * sent_rows_ * channels_ + c;
                for (int k = 0; k < 2; ++k) store<T>(to_made + k * channels_ + c, load<T>(up + k * channels_) * of_messages_);
                if (s_.first) continue;
                const V by = load<T>(carried_ + i * channels_ + c);
                V sum{};
                for (int x = 1; x < ROWS; ++x) {
                    const V one = load<T>(up + (x + 1) * channels_);
                    T* place = to + i * row + x * channels_ + c;
                    sum += one * load<T>(feature(i, x) + c);
                    store<T>(place, load<T>(place) + one * by);
                }
                store<T>(to_made + 2 * channels_ + c, sum * of_messages_);
            }
        }
        message_net_.backward(n, message_state_ + first * message_net_.hidden(), acted, above, to + first * row, row, true);
    }

    const T* feature(int64_t i, int64_t x) const { return h_ + (i * rows_in_ + x) * channels_; }

    // m and m⃗ of atom i.
    void receive(FilteredSum<T, 1>& sum, int64_t i) {
        T* row = message_ + i * ROWS * channels_;
        std::fill_n(row, ROWS * channels_, T(0));
        sum.value(i, row);
        for (int64_t c = 0; c < channels_; c += W) store<T>(row + c, (load<T>(row + c) + load<T>(feature(i, 0) + c)) * of_scalars_);
        for (int x = 1; x < ROWS; ++x)
            for (int64_t c = 0; c < channels_; c += W) {
                T* place = row + x * channels_ + c;
                store<T>(place, load<T>(place) * of_vectors_ + (s_.first ? V{} : load<T>(feature(i, x) + c)));
            }
    }

    void update(Room<T>& room, int64_t first, int64_t n) {
        const int64_t wide = 3 * mixed_rows_ * channels_;
        for (int x = 0; x < 3; ++x)
            mix_.forward(n, message_ + (first * ROWS + x + 1) * channels_, ROWS * channels_,
                         mixed_ + first * wide + x * mixed_rows_ * channels_, wide);
        T *seen = room.take(0, BLOCK * 2 * channels_), *acted = room.take(1, BLOCK * update_net_.hidden());
        for (int64_t i = first; i < first + n; ++i) {
            T* row = seen + (i - first) * 2 * channels_;
            std::copy_n(message_ + i * ROWS * channels_, channels_, row);
            for (int64_t c = 0; c < channels_; c += W) store<T>(row + channels_ + c, length(squared(i, c)));
        }
        T* gates = gates_ + first * update_net_.width();
        update_net_.forward(n, seen, 2 * channels_, update_state_ + first * update_net_.hidden(), acted, gates);
        for (int64_t i = first; i < first + n; ++i)
            for (int64_t c = 0; c < channels_; c += W) {
                const V m = load<T>(message_ + i * ROWS * channels_ + c), by = gate(i, 1, c), own = gate(i, 0, c);
                T* out = out_ + i * rows_out_ * channels_ + c;
                if (s_.painn) store<T>(out, m + (own + by * product(i, c)) * HALF);
                else store<T>(out, m + own * HALF + tanh(by) * m);
                for (int x = 1; x < rows_out_; ++x)
                    store<T>(out + x * channels_, load<T>(message_ + (i * ROWS + x) * channels_ + c) + gate(i, 2, c) * mixed(i, x, 1, c));
            }
    }

    // Leaves in `to` the gradient that passes by the message, and in `up_message_` that in what was received.
    void update_back(Room<T>& room, int64_t first, int64_t n, const T* up, T* to) {
        const int64_t gates = update_net_.width(), wide = 3 * mixed_rows_ * channels_;
        T *to_gates = room.take(0, BLOCK * gates), *acted = room.take(1, BLOCK * update_net_.hidden());
        T *to_seen = room.take(2, BLOCK * 2 * channels_), *to_mixed = room.take(3, BLOCK * wide);
        for (int64_t i = first; i < first + n; ++i)
            for (int64_t c = 0; c < channels_; c += W)
                gates_back(i, c, up + i * rows_out_ * channels_ + c, to_gates + (i - first) * gates + c, to_mixed + (i - first) * wide + c);
        update_net_.backward(n, update_state_ + first * update_net_.hidden(), acted, to_gates, to_seen, 2 * channels_, false);
        for (int64_t i = first; i < first + n; ++i)
            for (int64_t c = 0; c < channels_; c += W) {
                const T* seen = to_seen + (i - first) * 2 * channels_ + c;
                T *place = up_message_ + i * ROWS * channels_ + c, *own = to_mixed + (i - first) * wide + c;
                store<T>(place, load<T>(place) + load<T>(seen));
                const V by = load<T>(seen + channels_) * length_slope(squared(i, c));
                for (int x = 1; x < ROWS; ++x, own += mixed_rows_ * channels_) store<T>(own, load<T>(own) + by * mixed(i, x, 0, c));
            }
        for (int x = 0; x < 3; ++x)
            mix_.backward(n, to_mixed + x * mixed_rows_ * channels_, wide, up_message_ + (first * ROWS + x + 1) * channels_,
                          ROWS * channels_, true);
        for (int64_t i = first; i < first + n; ++i) pass(up_message_ + i * ROWS * channels_, to + i * rows_in_ * channels_);
    }

    // Of one vector of channels: the gradients in gates, in m and m⃗ by themselves, and in V m⃗ and U m⃗.
    void gates_back(int64_t i, int64_t c, const T* up, T* to_gates, T* to_mixed) {
        T* to_message = up_message_ + i * ROWS * channels_ + c;
        const V above = load<T>(up), m = load<T>(message_ + i * ROWS * channels_ + c), by = gate(i, 1, c);
        const V bent = s_.painn ? V{} : tanh(by), to_product = above * by * (HALF / T(std::sqrt(double(s_.channels))));
        store<T>(to_gates, above * HALF);
        store<T>(to_gates + channels_, above * (s_.painn ? product(i, c) * HALF : m * (T(1) - bent * bent)));
        store<T>(to_message, above + above * bent);
        V to_carry{};
        for (int x = 1; x < ROWS; ++x, to_mixed += mixed_rows_ * channels_) {
            const V along = s_.last ? V{} : load<T>(up + x * channels_);
            store<T>(to_message + x * channels_, along);
            store<T>(to_mixed, s_.painn ? to_product * mixed(i, x, 1, c) : V{});
            if (mixed_rows_ == 1) continue;
            to_carry += along * mixed(i, x, 1, c);
            store<T>(to_mixed + channels_, (s_.last ? V{} : along * gate(i, 2, c)) + (s_.painn ? to_product * mixed(i, x, 0, c) : V{}));
        }
        if (!s_.last) store<T>(to_gates + 2 * channels_, to_carry);
    }

    // From the gradient in m and m⃗ of one atom to that in its features, and in what it received.
    void pass(T* up, T* to) const {
        for (int x = 0; x < ROWS; ++x)
            for (int64_t c = 0; c < channels_; c += W, up += W) {
                const V above = load<T>(up) * (x ? T(1) : of_scalars_);
                if (x < rows_in_) store<T>(to + x * channels_ + c, above);
                store<T>(up, above * (x ? of_vectors_ : T(1)));
            }
    }

    static constexpr T HALF = T(0.70710678118654752440);  // √½

    V gate(int64_t i, int64_t k, int64_t c) const { return load<T>(gates_ + i * update_net_.width() + k * channels_ + c); }
    // V m⃗ (k = 0) and U m⃗ (k = 1) of atom i, x = 1 … 3.
    V mixed(int64_t i, int64_t x, int64_t k, int64_t c) const {
        return load<T>(mixed_ + ((i * 3 + x - 1) * mixed_rows_ + k) * channels_ + c);
    }
    V squared(int64_t i, int64_t c) const {
        V sum{};
        for (int x = 1; x < ROWS; ++x) sum += mixed(i, x, 0, c) * mixed(i, x, 0, c);
        return sum;
    }
    // <U m⃗, V m⃗>/√F.
    V product(int64_t i, int64_t c) const {
        V sum{};
        for (int x = 1; x < ROWS; ++x) sum += mixed(i, x, 0, c) * mixed(i, x, 1, c);
        return sum * (1 / T(std::sqrt(double(s_.channels))));
    }

    // What scalars see of a vector, of its square; and the slope of that, twice, which the vector is multiplied by.
    V length(V square) const {
        if (s_.invariant == Invariant::squared) return square;
        if (s_.invariant == Invariant::norm) return root<T>(square + T(1e-8));
        return square / (T(1) + root<T>(T(1) + square));
    }
    V length_slope(V square) const {
        if (s_.invariant == Invariant::squared) return splat<T>(T(2));
        return T(1) / root<T>(square + (s_.invariant == Invariant::norm ? T(1e-8) : T(1)));
    }
    static V tanh(V x) { return T(2) * sigmoid<T>(x + x) - T(1); }
};

}  // namespace mlanet
