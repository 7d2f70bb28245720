// A model file: a mark, a checksum, a header in JSON, tensors. Nothing in it is believed before it was checked.
//
// Byte 0: "mlanet\n" and 0 · 8: version, u32 · 12: CRC-32 of everything from byte 16 on, u32 · 16: bytes of the header,
// u64 · 24: the header · then, from a multiple of 64 on, the tensors, each at a multiple of 64 from there. Little-endian.
#pragma once
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <initializer_list>

#include "json.hpp"

namespace mlanet {

constexpr uint32_t FILE_VERSION = 2;  // the newest one; files that an older program can read have 1
constexpr size_t FIXED_BYTES = 24, ALIGNMENT = 64;

inline uint32_t crc32(const unsigned char* data, size_t size) {
    static const std::vector<uint32_t> table = [] {
        std::vector<uint32_t> made(256);
        for (uint32_t n = 0; n < 256; ++n) {
            uint32_t c = n;
            for (int k = 0; k < 8; ++k) c = c & 1 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
            made[n] = c;
        }
        return made;
    }();
    uint32_t sum = 0xFFFFFFFFu;
    for (size_t k = 0; k < size; ++k) sum = table[(sum ^ data[k]) & 255] ^ (sum >> 8);
    return sum ^ 0xFFFFFFFFu;
}

using Shape = std::initializer_list<int64_t>;

class ModelFile {
  public:
    COLD explicit ModelFile(std::vector<unsigned char> bytes) : bytes_(std::move(bytes)) {
        if (bytes_.size() < FIXED_BYTES || std::memcmp(bytes_.data(), "mlanet\n", 8) != 0)
            throw Error("this is no native model of mlanet (mlanet export native writes them)");
        if (const auto version = at<uint32_t>(8); version < 1 || version > FILE_VERSION)
            throw Error("the file has version " + std::to_string(version) + ", this program reads 1 to " +
                        std::to_string(FILE_VERSION) + "; export the model anew, or use a newer mlanet");
        if (at<uint32_t>(12) != crc32(bytes_.data() + 16, bytes_.size() - 16))
            throw Error("the file is damaged: its checksum does not match; copy or export it again");
        const auto length = at<uint64_t>(16);
        if (length > bytes_.size() - FIXED_BYTES) throw Error("the file is cut short");
        const char* text = reinterpret_cast<const char*>(bytes_.data()) + FIXED_BYTES;
        text_.assign(text, length);
        header_ = Json::parse(text, text + length);
        first_ = std::min(bytes_.size(), (FIXED_BYTES + size_t(length) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
        for (const Json& one : header_["tensors"].list()) add(one);
    }

    COLD static std::vector<unsigned char> bytes_of(const std::string& path) {
        std::FILE* file = std::fopen(path.c_str(), "rb");
        if (!file) throw Error(path + ": cannot be opened: " + std::strerror(errno));
        std::vector<unsigned char> found;
        unsigned char block[1 << 16];
        for (size_t n; (n = std::fread(block, 1, sizeof block, file)) > 0;) found.insert(found.end(), block, block + n);
        const bool failed = std::ferror(file);
        std::fclose(file);
        if (failed) throw Error(path + ": cannot be read");
        return found;
    }

    const Json& header() const { return header_; }
    const std::string& text() const { return text_; }

    // A tensor of exactly this shape, finite, in the caller's precision.
    template <class T> COLD std::vector<T> numbers(const std::string& name, Shape shape) const {
        const Tensor& one = found(name, shape);
        std::vector<T> values(one.count);
        if (one.type == "float32") copy<float>(one, values);
        else if (one.type == "float64") copy<double>(one, values);
        else throw Error("tensor '" + name + "' has type " + one.type + ", expected float32 or float64");
        for (T value : values)
            if (!std::isfinite(value)) throw Error("tensor '" + name + "' holds NaN or infinity");
        return values;
    }

    // Whole numbers from 0 to below `limit`.
    COLD std::vector<int32_t> indices(const std::string& name, Shape shape, int64_t limit) const {
        const Tensor& one = found(name, shape);
        if (one.type != "int32") throw Error("tensor '" + name + "' has type " + one.type + ", expected int32");
        std::vector<int32_t> values(one.count);
        copy<int32_t>(one, values);
        for (int32_t value : values)
            if (value < 0 || value >= limit) throw Error("tensor '" + name + "' holds a number out of range");
        return values;
    }

    bool has(const std::string& name) const { return tensors_.count(name) > 0; }
    // The length of the first axis of a tensor.
    COLD int64_t first_axis(const std::string& name) const {
        const Tensor& one = found(name);
        if (one.shape.empty()) throw Error("tensor '" + name + "' has another shape than expected");
        return one.shape[0];
    }

    // The length of a tensor with one axis.
    COLD int64_t length(const std::string& name) const {
        const Tensor& one = found(name);
        if (one.shape.size() != 1) throw Error("tensor '" + name + "' has another shape than expected");
        return one.shape[0];
    }

  private:
    struct Tensor {
        std::string type;
        std::vector<int64_t> shape;
        size_t place;
        int64_t count;
    };
    static constexpr int64_t MOST_AXES = 4, LONGEST = int64_t(1) << 31;

    std::vector<unsigned char> bytes_;
    std::string text_;
    Json header_;
    size_t first_ = 0;
    std::map<std::string, Tensor> tensors_;

    template <class X> X at(size_t place) const {
        X found;
        std::memcpy(&found, bytes_.data() + place, sizeof found);
        return found;
    }

    COLD void add(const Json& one) {
        const std::string name = one["name"].text(), type = one["type"].text();
        const size_t size = type == "float64" ? 8 : type == "float32" || type == "int32" ? 4 : 0;
        if (!size) throw Error("tensor '" + name + "' has a type that is not known: " + type);
        const size_t room = bytes_.size() - first_;
        const auto& axes = one["shape"].list();
        if (axes.size() > MOST_AXES) throw Error("tensor '" + name + "' has too many axes");
        Tensor made{type, {}, size_t(one["offset"].whole(0, int64_t(room))), 1};
        for (const Json& axis : axes) {
            made.shape.push_back(axis.whole(0, LONGEST));
            if (made.shape.back() && made.count > int64_t(room) / made.shape.back())
                throw Error("tensor '" + name + "' is larger than the file");
            made.count *= made.shape.back();
        }
        if (made.place % ALIGNMENT || size_t(made.count) > (room - made.place) / size)
            throw Error("tensor '" + name + "' lies outside of the file");
        made.place += first_;
        if (!tensors_.emplace(name, made).second) throw Error("tensor '" + name + "' is there twice");
    }

    COLD const Tensor& found(const std::string& name) const {
        const auto one = tensors_.find(name);
        if (one == tensors_.end()) throw Error("the file has no tensor '" + name + "'");
        return one->second;
    }
    COLD const Tensor& found(const std::string& name, Shape shape) const {
        const Tensor& one = found(name);
        if (!std::equal(shape.begin(), shape.end(), one.shape.begin(), one.shape.end()))
            throw Error("tensor '" + name + "' has another shape than the settings ask for");
        return one;
    }

    template <class From, class To> void copy(const Tensor& one, std::vector<To>& to) const {
        for (int64_t k = 0; k < one.count; ++k) to[k] = To(at<From>(one.place + k * sizeof(From)));
    }
};

}  // namespace mlanet
