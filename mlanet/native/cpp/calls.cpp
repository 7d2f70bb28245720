// What Python calls (mlanet/native/engine.py): the engine behind a C interface, errors as texts.
#include "engine.cpp"

using namespace mlanet;

namespace {

// Rows and their width, and whether their numbers are float64.
using Pass = void (*)(void* rows, int64_t width, int32_t is_double);

class Calls final : public Exchange {
  public:
    Calls(Pass forward, Pass reverse) : forward_(forward), reverse_(reverse) {}
    void forward(float* rows, int64_t width) override { forward_(rows, width, 0); }
    void forward(double* rows, int64_t width) override { forward_(rows, width, 1); }
    void reverse(float* rows, int64_t width) override { reverse_(rows, width, 0); }
    void reverse(double* rows, int64_t width) override { reverse_(rows, width, 1); }

  private:
    Pass forward_, reverse_;
};

// Runs `work`; what it throws is written to `error`, of `room` bytes. Whether it went well.
template <class Work> int32_t tried(char* error, int64_t room, Work work) {
    try {
        work();
        return 1;
    } catch (const std::exception& found) {
        std::snprintf(error, size_t(room), "%s", found.what());
    }
    return 0;
}

}  // namespace

extern "C" {

void* mlanet_engine_read(const void* bytes, int64_t size, int32_t precision, char* error, int64_t room) {
    std::unique_ptr<Engine> made;
    tried(error, room, [&] { made = Engine::read(bytes, size_t(size), Precision(precision)); });
    return made.release();
}

void mlanet_engine_close(void* engine) { delete static_cast<Engine*>(engine); }

int64_t mlanet_engine_feature_width(const void* engine) { return static_cast<const Engine*>(engine)->feature_width(); }

int64_t mlanet_engine_largest_width(const void* engine) { return static_cast<const Engine*>(engine)->largest_width(); }

int32_t mlanet_engine_knows(const void* engine, int32_t limit) {
    return static_cast<const Engine*>(engine)->knows(Limit(limit));
}

int32_t mlanet_engine_compute(void* engine, const Structure* structure, int32_t threads, Pass forward, Pass reverse,
                              Answer* answer, char* error, int64_t room) {
    return tried(error, room, [&] {
        Calls calls(forward, reverse);
        auto* one = static_cast<Engine*>(engine);
        one->use_threads(threads);
        one->compute(*structure, forward ? &calls : nullptr, *answer);
    });
}
}
