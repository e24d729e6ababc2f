#include "value.hpp"

#include <cstring>

#include "run_errors.hpp"

namespace effbert::detail {
namespace {

constexpr const char *no_tensor = "onnxruntime could not make a tensor";

int ort_dtype(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return ort_float32;
    case DType::int64:
      return ort_int64;
    case DType::boolean:
      return ort_bool;
  }
  return 0;
}

DType own_dtype(int dtype) {
  switch (dtype) {
    case ort_float32:
      return DType::float32;
    case ort_int64:
      return DType::int64;
    case ort_bool:
      return DType::boolean;
    default:
      throw EngineError("A segment gave a tensor of a type that no bundle has; export it again.");
  }
}

}  // namespace

std::size_t width(DType dtype) {
  return dtype == DType::int64 ? 8 : dtype == DType::float32 ? 4 : 1;
}

std::size_t product(const Shape &shape, std::size_t from) {
  std::size_t count = 1;
  for (std::size_t i = from; i < shape.size(); ++i) count *= static_cast<std::size_t>(shape[i]);
  return count;
}

Value::Value(const Library &library, OrtValue *value) : held_(std::make_shared<Held>()) {
  const OrtCalls &ort = library.calls();
  held_->library = &library;
  held_->value = value;
  OrtTensorTypeAndShapeInfo *raw = nullptr;
  library.check(ort.GetTensorTypeAndShape(value, &raw), "A segment gave no tensor");
  const std::unique_ptr<OrtTensorTypeAndShapeInfo, void (*)(OrtTensorTypeAndShapeInfo *)> info(
      raw, ort.ReleaseTensorTypeAndShapeInfo);
  int dtype = 0;
  std::size_t rank = 0;
  library.check(ort.GetTensorElementType(raw, &dtype), no_tensor);
  library.check(ort.GetDimensionsCount(raw, &rank), no_tensor);
  held_->dtype = own_dtype(dtype);
  held_->shape.resize(rank);
  library.check(ort.GetDimensions(raw, held_->shape.data(), rank), no_tensor);
  library.check(ort.GetTensorMutableData(value, &held_->data), no_tensor);
}

Value::Value(const Library &library, DType dtype, Shape shape) : held_(std::make_shared<Held>()) {
  const OrtCalls &ort = library.calls();
  held_->library = &library;
  held_->dtype = dtype;
  held_->shape = std::move(shape);
  OrtAllocator *allocator = nullptr;
  library.check(ort.GetAllocatorWithDefaultOptions(&allocator), no_tensor);
  library.check(ort.CreateTensorAsOrtValue(allocator, held_->shape.data(), held_->shape.size(),
                                           ort_dtype(dtype), &held_->value),
                no_tensor);
  library.check(ort.GetTensorMutableData(held_->value, &held_->data), no_tensor);
}

Value::Value(const Library &library, const OrtMemoryInfo *memory, DType dtype, Shape shape,
             const void *data)
    : held_(std::make_shared<Held>()) {
  held_->library = &library;
  held_->dtype = dtype;
  held_->shape = std::move(shape);
  held_->data = const_cast<void *>(data);  // onnxruntime does not write to what it is fed
  library.check(library.calls().CreateTensorWithDataAsOrtValue(
                    memory, held_->data, product(held_->shape) * width(dtype), held_->shape.data(),
                    held_->shape.size(), ort_dtype(dtype), &held_->value),
                no_tensor);
}

Value packed(const Library &library, const Value &value, const std::vector<std::int64_t> &rows,
             std::size_t axis, std::int64_t columns) {
  Shape shape = value.shape();
  const std::size_t size = width(value.dtype());
  const std::size_t row = product(shape, 1) * size;
  const bool narrower = axis > 0 && columns < shape[axis];
  // A row is `outer` runs of columns, of which the first `run` bytes stay.
  std::size_t outer = 1, whole = row, run = row;
  if (narrower) {
    for (std::size_t i = 1; i < axis; ++i) outer *= static_cast<std::size_t>(shape[i]);
    const std::size_t inner = product(shape, axis + 1) * size;
    whole = inner * static_cast<std::size_t>(shape[axis]);
    run = inner * static_cast<std::size_t>(columns);
    shape[axis] = columns;
  }
  shape[0] = static_cast<std::int64_t>(rows.size());
  Value made(library, value.dtype(), std::move(shape));
  char *target = made.writable<char>();
  for (const std::int64_t index : rows) {
    const char *source = value.data<char>() + static_cast<std::size_t>(index) * row;
    for (std::size_t i = 0; i < outer; ++i, source += whole, target += run) {
      if (run) std::memcpy(target, source, run);
    }
  }
  return made;
}

}  // namespace effbert::detail
