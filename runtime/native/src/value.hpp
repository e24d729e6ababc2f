// Tensors of onnxruntime.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "library.hpp"
#include "manifest.hpp"

namespace effbert::detail {

using Shape = std::vector<std::int64_t>;

// Bytes of a number.
std::size_t width(DType dtype);
// How many numbers there are; axes before `from` do not count.
std::size_t product(const Shape &shape, std::size_t from = 0);

// A tensor in memory, shared by its copies; its numbers are not changed once others have it.
class Value {
 public:
  Value() = default;
  // Takes over a tensor that onnxruntime made. Throws EngineError if it is of no type that a bundle has.
  Value(const Library &library, OrtValue *value);
  // A tensor with room for the numbers.
  Value(const Library &library, DType dtype, Shape shape);
  // A tensor over numbers of somebody else, who keeps them.
  Value(const Library &library, const OrtMemoryInfo *memory, DType dtype, Shape shape, const void *data);

  explicit operator bool() const { return static_cast<bool>(held_); }
  const OrtValue *get() const { return held_->value; }
  DType dtype() const { return held_->dtype; }
  const Shape &shape() const { return held_->shape; }
  template <typename T>
  const T *data() const {
    return static_cast<const T *>(held_->data);
  }
  template <typename T>
  T *writable() {
    return static_cast<T *>(held_->data);
  }

 private:
  struct Held {
    const Library *library;
    OrtValue *value = nullptr;
    DType dtype = DType::float32;
    Shape shape;
    void *data = nullptr;
    ~Held() { library->calls().ReleaseValue(value); }
  };
  std::shared_ptr<Held> held_;
};

// A new tensor of some rows, in this order. Along `axis`, if it is above 0, only the first columns.
Value packed(const Library &library, const Value &value, const std::vector<std::int64_t> &rows,
             std::size_t axis, std::int64_t columns);

}  // namespace effbert::detail
