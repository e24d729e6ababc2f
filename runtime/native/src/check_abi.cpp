// Compares every place and signature of ort_calls.hpp with onnxruntime's own header, when built with
// EFFBERT_CHECK_ABI. Nothing is computed here.
#include <onnxruntime_c_api.h>

#include <cstddef>
#include <type_traits>

#include "ort_calls.hpp"

namespace {

// Enumerations are passed as int.
template <typename T>
struct Plain {
  using type = std::conditional_t<std::is_enum_v<T>, int, T>;
};
template <typename T>
struct Plain<T *> {
  using type = std::conditional_t<std::is_enum_v<T>, int, T> *;
};

template <typename F>
struct Signature;
template <typename R, typename... A>
struct Signature<R (*)(A...)> {
  using type = typename Plain<R>::type (*)(typename Plain<A>::type...);
};
template <typename R, typename... A>
struct Signature<R (*)(A...) noexcept> {
  using type = typename Plain<R>::type (*)(typename Plain<A>::type...);
};

#define EFFBERT_CHECK(place, name, result, parameters)                                 \
  static_assert(offsetof(OrtApi, name) == place * sizeof(void *), #name " is elsewhere"); \
  static_assert(std::is_same_v<Signature<decltype(OrtApi::name)>::type,                \
                               result(*) parameters>,                                  \
                #name " has another signature");
EFFBERT_ORT_CALLS(EFFBERT_CHECK)

static_assert(sizeof(OrtLoggingLevel) == sizeof(int));
static_assert(ORT_LOGGING_LEVEL_FATAL == effbert::detail::ort_fatal);
static_assert(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT == effbert::detail::ort_float32);
static_assert(ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 == effbert::detail::ort_int64);
static_assert(ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL == effbert::detail::ort_bool);
static_assert(OrtArenaAllocator == effbert::detail::ort_arena_allocator);
static_assert(OrtMemTypeDefault == effbert::detail::ort_memory_default);
static_assert(offsetof(OrtApiBase, GetApi) == 0);
static_assert(offsetof(OrtApiBase, GetVersionString) == sizeof(void *));

}  // namespace
