// Reads a model file damaged in many ways, checksum made right again; whatever opens has to compute. For sanitizers.
#include <cstdio>

#include "engine.cpp"

using namespace mlanet;
using Bytes = std::vector<unsigned char>;

namespace {

int64_t opened = 0, refused = 0;

void seal(Bytes& data) {
    if (data.size() < 16) return;
    const uint32_t sum = crc32(data.data() + 16, data.size() - 16);
    std::memcpy(data.data() + 12, &sum, sizeof sum);
}

void try_one(Bytes data, bool sealed) {
    if (sealed) seal(data);
    try {
        const auto engine = Engine::read(data.data(), data.size());
        const int32_t species[] = {0, 0};
        const int64_t start[] = {0, 1, 2}, neighbor[] = {1, 0};
        const double vectors[] = {0.3, 0.4, 1.0, -0.3, -0.4, -1.0};
        Answer answer;
        double distances[2], energies_std[2], forces_std[2];
        if (engine->knows(Limit::distance)) answer.distances = distances;
        if (engine->knows(Limit::energy_std)) answer.energies_std = energies_std;
        if (engine->knows(Limit::force_std)) answer.forces_std = forces_std;
        engine->compute({2, 2, species, start, neighbor, vectors}, nullptr, answer);
        ++opened;
    } catch (const Error&) {
        ++refused;
    }
}

}  // namespace

int main(int count, char** words) {
    if (count != 3) return 2;
    const Bytes whole = ModelFile::bytes_of(words[1]);
    const size_t step = size_t(std::atoi(words[2]));
    uint64_t length;
    std::memcpy(&length, whole.data() + 16, sizeof length);
    for (size_t k = 0; k < FIXED_BYTES + length; k += step)
        for (const int change : {0x01, 0x10, 0x80, 0xFF}) {
            Bytes data = whole;
            data[k] ^= static_cast<unsigned char>(change);
            try_one(data, true);
        }
    for (size_t k = 0; k < FIXED_BYTES + length; k += step) {  // longer numbers, shorter texts
        Bytes data = whole;
        data.insert(data.begin() + int64_t(k), '9');
        try_one(data, true);
        data = whole;
        data.erase(data.begin() + int64_t(k));
        try_one(data, true);
    }
    for (size_t k = 0; k < whole.size(); k += 1 + whole.size() / 400) {
        Bytes data(whole.begin(), whole.begin() + int64_t(k));
        try_one(data, true);
        try_one(data, false);
        data = whole;
        data[k] ^= 0x40;
        try_one(data, false);
        try_one(data, true);
    }
    std::printf("%lld opened, %lld refused\n", static_cast<long long>(opened), static_cast<long long>(refused));
    return opened && refused ? 0 : 1;
}
