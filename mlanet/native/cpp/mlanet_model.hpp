// The whole of MLANet: from the vectors of pairs to energies, and back to forces; see mlanet/models/mlanet.py.
#pragma once
#include "../../ops/cpp/directions.hpp"
#include "base.hpp"
#include "pairs.hpp"
#include "readout.hpp"
#include "settings.hpp"
#include "wall.hpp"

namespace mlanet {

template <class T, int L> class MLANet final : public EngineBase {
  public:
    static constexpr int M = (L + 1) * (L + 1), W = Lanes<T>::width;

    explicit MLANet(const ModelFile& file) : MLANet(file, MLANetSettings(file.header()["settings"])) {}

    Precision precision() const override { return sizeof(T) == 4 ? Precision::float32 : Precision::float64; }
    int64_t feature_width() const override { return readout_.features(); }
    int64_t largest_width() const override {
        int64_t most = std::max<int64_t>(1, readout_.largest_width());
        for (const auto& layer : layers_) most = std::max(most, layer->largest_width());
        return most;
    }

    void compute(const Structure& s, Exchange* exchange, Answer& answer) override {
        require(s, exchange);
        wall_.look(s, exchange);
        pairs_.take(s);
        wall_.see(s, pairs_.vectors);
        pairs_.forward(s, threads());
        Step<T> step{&s, exchange, threads(), {s.neighbor, s.start}, factor_.take(s.n_local + 1), pairs_.u, pairs_.basis, pairs_.harmonics};
        for (int64_t i = 0; i < s.n_local; ++i) step.factor[i] = 1 + pairs_.coordination[i] / T(settings_.mean_neighbors);
        const T* features = embed(step);
        for (auto& layer : layers_) layer->forward(step, features), features = layer->output();
        T* site = site_.take(s.n_local + 1);
        readout_.forward(step, features, pairs_.coordination, site);
        energies(s, site, answer);
        backward(step, answer);
    }

  private:
    MLANetSettings settings_;
    int64_t species_, channels_;
    RadialBasis<T> radial_;
    Wall wall_;
    Pairs<T, L> pairs_;
    std::vector<T> embedding_, sender_, shift_;
    std::vector<double> lone_features_;
    RadialWeights<T> direction_weights_;
    DirectionSizes direction_sizes_{};
    DirectionInputs<T, 1> direction_inputs_{};
    CouplingTable<T> couplings_;
    TermTable<T> terms_, last_terms_;
    std::vector<std::unique_ptr<Layer<T, L>>> layers_;
    Readout<T> readout_;
    const int64_t *neighbor_ = nullptr, *start_ = nullptr;
    std::vector<std::unique_ptr<Directions<T, L, 1>>> directions_;
    Buffer<T> factor_, features_, senders_, site_, up_site_, up_[2], to_factor_, to_coordination_, sums_[2][3], to_vectors_;
    Buffer<double> to_true_, atomic_;

    MLANet(const ModelFile& file, const MLANetSettings& settings)
        : EngineBase(file), settings_(settings), species_(int64_t(species().size())),
          channels_(whole<T>(settings.channels)), wall_(file, file.header()["settings"], species_, cutoff()), pairs_(radial_),
          readout_(file, settings.channels, settings.local_pooling, settings.pooling_bound, settings.mean_neighbors) {
        if (settings.l_max != L) throw Error("the header holds another l_max than expected");
        const int64_t c = settings.channels, functions = settings.functions();
        read_radial(file);
        embedding_ = padded(file.numbers<T>("embedding", {species_, c}), 1, species_, 1, c, species_, channels_);
        sender_ = padded(file.numbers<T>("sender", {species_, c}), 1, species_, 1, c, species_, channels_);
        if (settings.bonded) shift_ = file.numbers<T>("bonded", {species_});
        lone_features_ = file.numbers<double>("lone_features", {species_, c});
        const auto radial = radial_layers<T>(file, "directions", functions, settings.radial_hidden, L, c);
        const T* raw[MAX_DEPTH] = {};
        for (size_t k = 0; k < radial.weights.size(); ++k) raw[k] = radial.weights[k].data();
        direction_weights_.pack(int64_t(radial.weights.size()), radial.widths.data(), raw);
        direction_sizes_.channels = channels_, direction_sizes_.functions = functions;
        direction_sizes_.depth = int64_t(radial.weights.size());
        std::copy(radial.widths.begin(), radial.widths.end(), direction_sizes_.widths);
        direction_sizes_.factor = 1 / std::sqrt(settings.mean_neighbors);
        if (settings.full) read_couplings(file, L, couplings_);
        if (settings.product && settings.layers > 1) read_terms(file, "terms", L, L, terms_);
        if (settings.product) read_terms(file, "last_terms", L, 0, last_terms_);
        for (int64_t k = 0; k < settings.layers; ++k) {
            const bool last = k + 1 == settings.layers;
            layers_.push_back(std::make_unique<Layer<T, L>>(file, "layers." + std::to_string(k), settings.layer(last ? 0 : L),
                                                            &couplings_, last ? &last_terms_ : &terms_));
        }
    }

    void read_radial(const ModelFile& file) {
        radial_.cutoff = T(cutoff());
        radial_.wave_numbers = file.numbers<T>("radial.wave_numbers", {settings_.bessel});
        if (!settings_.bonds) return;
        radial_.centers = file.numbers<T>("bonds.centers", {settings_.bonds});
        radial_.radius = file.numbers<T>("bonds.radius", {species_});
        radial_.spread = file.numbers<T>("bonds.spread", {1})[0];
        for (T one : radial_.radius)
            if (!(one > 0)) throw Error("tensor 'bonds.radius' must be positive");
        if (!(radial_.spread > 0)) throw Error("tensor 'bonds.spread' must be positive");
    }

    // h⁰ (n_local, M, C): the element, and one look at the directions around.
    const T* embed(const Step<T>& step) {
        const Structure& s = *step.structure;
        T *h = features_.take(s.n_local * M * channels_ + 1), *senders = senders_.take(s.n_total * channels_ + 1);
        for (int64_t j = 0; j < s.n_total; ++j) std::copy_n(sender_.data() + s.species[j] * channels_, channels_, senders + j * channels_);
        direction_sizes_.centers = s.n_local, direction_sizes_.atoms = s.n_total, direction_sizes_.threads = step.threads;
        direction_inputs_ = {{senders}, {step.envelope}, {step.basis}, {step.harmonics}};
        if (neighbor_ != s.neighbor || start_ != s.start) directions_.clear();
        neighbor_ = s.neighbor, start_ = s.start;
        while (int64_t(directions_.size()) < step.threads)
            directions_.push_back(std::make_unique<Directions<T, L, 1>>(direction_sizes_, direction_inputs_,
                                                                       direction_weights_, s.neighbor, s.start));
        over_centers(s.n_local, step.threads, s.start, [&](int64_t t, int64_t first, int64_t last) {
            for (int64_t i = first; i < last; ++i) {
                T* row = h + i * M * channels_;
                std::copy_n(embedding_.data() + s.species[i] * channels_, channels_, row);
                std::fill_n(row + channels_, (M - 1) * channels_, T(0));
                directions_[t]->message(i, row + channels_);
            }
        });
        return h;
    }

    // Site energies to eV: scaled, less those of lone atoms, with references and what is not learnt.
    void energies(const Structure& s, const T* site, Answer& answer) {
        double* atomic = atomic_.take(s.n_local + 1);
        for (int64_t i = 0; i < s.n_local; ++i) {
            atomic[i] = atom(s.species[i], double(site[i]));
            if (settings_.bonded) atomic[i] -= double(shift_[s.species[i]] * std::expm1(-pairs_.coordination[i]));
        }
        wall_.energies(s, atomic);
        answer.energy = 0;
        for (int64_t i = 0; i < s.n_local; ++i) answer.energy += atomic[i];
        if (answer.atomic_energies) std::copy_n(atomic, s.n_local, answer.atomic_energies);
        if (!answer.features) return;
        const int64_t n = readout_.features();
        for (int64_t i = 0; i < s.n_local; ++i)
            for (int64_t c = 0; c < n; ++c)
                answer.features[i * n + c] = double(readout_.features_of(i)[c]) - lone_features_[s.species[i] * n + c];
    }

    // Gradients in u, RBF and Y of the pairs, in place k; zeros where asked for.
    PairSums<T> pair_sums(const Structure& s, int k, bool zeros) {
        const int64_t pairs = s.start[s.n_local], sizes[] = {pairs, pairs * settings_.functions(), pairs * M};
        PairSums<T> sums{};
        T** places[] = {&sums.envelope, &sums.basis, &sums.harmonics};
        for (int x = 0; x < 3; ++x) {
            *places[x] = sums_[k][x].take(rounded_up(sizes[x], W) + W);
            if (zeros) std::fill_n(*places[x], rounded_up(sizes[x], W), T(0));
        }
        sums.factor = to_factor_.take(s.n_local + 1);
        return sums;
    }

    static void add(int64_t count, const T* from, T* to) {
        for (int64_t k = 0; k < count; k += W) store<T>(to + k, load<T>(to + k) + load<T>(from + k));
    }

    void add(const Structure& s, const PairSums<T>& from, const PairSums<T>& to) const {
        const int64_t pairs = s.start[s.n_local];
        add(pairs, from.envelope, to.envelope), add(pairs * settings_.functions(), from.basis, to.basis);
        add(pairs * M, from.harmonics, to.harmonics);
    }

    void backward(const Step<T>& step, Answer& answer) {
        const Structure& s = *step.structure;
        T *up_site = up_site_.take(s.n_local + 1), *to_coordination = to_coordination_.take(s.n_local + 1);
        for (int64_t i = 0; i < s.n_local; ++i) {
            up_site[i] = T(scale(s.species[i]));
            to_coordination[i] = settings_.bonded ? shift_[s.species[i]] * std::exp(-pairs_.coordination[i]) : T(0);
        }
        T *up = up_[0].take(s.n_local * M * channels_ + 1), *to = up_[1].take(s.n_local * M * channels_ + 1);
        const PairSums<T> sums = pair_sums(s, 0, true), more = pair_sums(s, 1, false);
        readout_.backward(step, pairs_.coordination, up_site, up, more.envelope, to_coordination);
        if (settings_.local_pooling) add(s.start[s.n_local], more.envelope, sums.envelope);
        for (size_t k = layers_.size(); k-- > 0; std::swap(up, to)) {
            layers_[k]->backward(step, up, to, more);
            add(s, more, sums);
            for (int64_t i = 0; i < s.n_local; ++i) to_coordination[i] += more.factor[i] / T(settings_.mean_neighbors);
        }
        embed_back(step, up, more);
        add(s, more, sums);
        for (int64_t i = 0; i < s.n_local; ++i)
            for (int64_t e = s.start[i]; e < s.start[i + 1]; ++e) sums.envelope[e] += to_coordination[i];
        T* to_seen = to_vectors_.take(3 * s.start[s.n_local] + 1);
        pairs_.backward(s, step.threads, sums.envelope, sums.basis, sums.harmonics, to_seen);
        double* to_vectors = to_true_.take(3 * s.start[s.n_local] + 1);
        wall_.back(s, step.exchange, to_seen, to_vectors);
        share(s, to_vectors, answer);
    }

    void embed_back(const Step<T>& step, const T* up, const PairSums<T>& sums) {
        const Structure& s = *step.structure;
        const DirectionSums<T> to{nullptr, nullptr, sums.envelope, sums.basis, sums.harmonics, {}};
        over_centers(s.n_local, step.threads, s.start, [&](int64_t t, int64_t first, int64_t last) {
            for (int64_t i = first; i < last; ++i) directions_[t]->gradient(i, up + (i * M + 1) * channels_, to);
        });
    }
};

}  // namespace mlanet
