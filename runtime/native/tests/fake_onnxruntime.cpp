// A library that looks like onnxruntime to ours and computes something simple: TSAN sees all of it.
//
// A segment is the text "fake N". A row whose first token id is 5 + k or less leaves at exit k; the
// logits are the sum of its ids and how many segments it has seen, plus the knob `threshold`.
#include "fake_onnxruntime.hpp"

#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "ort_calls.hpp"

namespace {
std::atomic<int> live{0}, wait_us{0}, most_rows{1 << 30};
std::atomic<bool> host_has_environment{false};

struct Counted {
  Counted() { ++live; }
  Counted(const Counted &) = delete;
  Counted &operator=(const Counted &) = delete;
  ~Counted() { --live; }
};
}  // namespace

struct OrtStatus : Counted {
  std::string text;
};
struct OrtEnv : Counted {};
struct OrtThreadingOptions : Counted {};
struct OrtSessionOptions : Counted {
  bool shared_pool = false;
};
struct OrtRunOptions : Counted {
  std::atomic<bool> stop{false};
};
struct OrtMemoryInfo : Counted {};
struct OrtAllocator {};
struct OrtTensorTypeAndShapeInfo : Counted {
  int dtype = 0;
  std::vector<std::int64_t> shape;
};
struct OrtValue : Counted {
  int dtype = 0;
  std::vector<std::int64_t> shape;
  std::vector<char> own;
  void *data = nullptr;
};
struct OrtSession : Counted {
  int index = 0;
};

namespace {

OrtStatus *failure(const char *text) {
  auto *status = new OrtStatus;
  status->text = text;
  return status;
}

std::size_t count(const std::vector<std::int64_t> &shape) {
  std::size_t product = 1;
  for (const std::int64_t extent : shape) product *= static_cast<std::size_t>(extent);
  return product;
}

OrtValue *tensor(int dtype, std::vector<std::int64_t> shape) {
  auto *value = new OrtValue;
  value->dtype = dtype;
  value->own.resize(count(shape) * 8);
  value->shape = std::move(shape);
  value->data = value->own.data();
  return value;
}

OrtStatus *wait(const OrtRunOptions *options) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(wait_us.load());
  do {
    if (options->stop) return failure("Exiting due to terminate flag being set to true.");
    if (wait_us) std::this_thread::sleep_for(std::chrono::microseconds(50));
  } while (std::chrono::steady_clock::now() < end);
  return nullptr;
}

OrtStatus *run(OrtSession *session, const OrtRunOptions *options, const char *const *names,
               const OrtValue *const *values, std::size_t fed, const char *const *wanted,
               std::size_t outputs, OrtValue **made) {
  std::map<std::string, const OrtValue *> inputs;
  for (std::size_t i = 0; i < fed; ++i) inputs[names[i]] = values[i];
  const std::vector<std::int64_t> shape = inputs.at("input_ids")->shape;
  const std::int64_t rows = shape[0], length = shape[1];
  if (OrtStatus *stopped = wait(options)) return stopped;
  if (rows > most_rows) return failure("Failed to allocate memory for requested buffer");
  const auto *ids = static_cast<const std::int64_t *>(inputs.at("input_ids")->data);
  const auto *mask = static_cast<const std::int64_t *>(inputs.at("attention_mask")->data);
  const auto *seen = static_cast<const float *>(inputs.at("seen")->data);
  const float threshold = *static_cast<const float *>(inputs.at("threshold")->data);
  OrtValue *exits = tensor(effbert::detail::ort_bool, {rows}), *signal = tensor(effbert::detail::ort_float32, {rows});
  OrtValue *logits = tensor(effbert::detail::ort_float32, {rows, 2}), *more = tensor(effbert::detail::ort_float32, shape);
  for (std::int64_t row = 0; row < rows; ++row) {
    float sum = 0;
    for (std::int64_t i = row * length; i < (row + 1) * length; ++i) {
      sum += static_cast<float>(ids[i] * mask[i]);
      static_cast<float *>(more->data)[i] = seen[i] + 1;
    }
    static_cast<bool *>(exits->data)[row] = ids[row * length] <= 5 + session->index;
    static_cast<float *>(signal->data)[row] = static_cast<float>(session->index);
    static_cast<float *>(logits->data)[2 * row] = sum;
    static_cast<float *>(logits->data)[2 * row + 1] = seen[row * length] + threshold;
  }
  const std::map<std::string, OrtValue *> found = {
      {"exit", exits}, {"signal", signal}, {"logits", logits}, {"seen_out", more}};
  for (std::size_t i = 0; i < outputs; ++i) made[i] = found.at(wanted[i]);
  return nullptr;
}

OrtStatus *open(const OrtEnv *, const void *data, std::size_t size, const OrtSessionOptions *options,
                OrtSession **session) {
  const std::string text(static_cast<const char *>(data), size);
  if (text.rfind("fake ", 0) != 0) return failure("this is no segment");
  if (options->shared_pool && host_has_environment) return failure("there is no pool to share");
  *session = new OrtSession;
  (*session)->index = std::stoi(text.substr(5));
  return nullptr;
}

template <typename T>
OrtStatus *make(T **out) {
  *out = new T;
  return nullptr;
}
template <typename T>
void release(T *thing) {
  delete thing;
}
template <typename... A>
OrtStatus *accept(A...) {
  return nullptr;
}

const char *message(const OrtStatus *status) { return status->text.c_str(); }
OrtStatus *environment(int, const char *, const OrtThreadingOptions *, OrtEnv **out) { return make(out); }
OrtStatus *memory(int, int, OrtMemoryInfo **out) { return make(out); }
OrtStatus *share(OrtSessionOptions *options) {
  options->shared_pool = true;
  return nullptr;
}
OrtStatus *stop(OrtRunOptions *options) {
  options->stop = true;
  return nullptr;
}
OrtStatus *allocator(OrtAllocator **out) {
  static OrtAllocator one;
  *out = &one;
  return nullptr;
}
OrtStatus *allocated(OrtAllocator *, const std::int64_t *shape, std::size_t rank, int dtype,
                     OrtValue **out) {
  *out = tensor(dtype, {shape, shape + rank});
  return nullptr;
}
OrtStatus *over(const OrtMemoryInfo *, void *data, std::size_t, const std::int64_t *shape,
                std::size_t rank, int dtype, OrtValue **out) {
  make(out);
  (*out)->dtype = dtype;
  (*out)->shape.assign(shape, shape + rank);
  (*out)->data = data;
  return nullptr;
}
OrtStatus *data_of(OrtValue *value, void **out) {
  *out = value->data;
  return nullptr;
}
OrtStatus *info_of(const OrtValue *value, OrtTensorTypeAndShapeInfo **out) {
  make(out);
  (*out)->dtype = value->dtype;
  (*out)->shape = value->shape;
  return nullptr;
}
OrtStatus *dtype_of(const OrtTensorTypeAndShapeInfo *info, int *out) {
  *out = info->dtype;
  return nullptr;
}
OrtStatus *rank_of(const OrtTensorTypeAndShapeInfo *info, std::size_t *out) {
  *out = info->shape.size();
  return nullptr;
}
OrtStatus *shape_of(const OrtTensorTypeAndShapeInfo *info, std::int64_t *out, std::size_t rank) {
  std::memcpy(out, info->shape.data(), rank * sizeof *out);
  return nullptr;
}

const void *table() {
  using effbert::detail::OrtCalls;
  static void *places[300];
  static OrtCalls calls(places);  // all null
  calls.GetErrorMessage = message;
  calls.ReleaseStatus = release;
  calls.CreateThreadingOptions = make;
  calls.ReleaseThreadingOptions = release;
  calls.SetGlobalIntraOpNumThreads = accept;
  calls.SetGlobalInterOpNumThreads = accept;
  calls.SetGlobalSpinControl = accept;
  calls.CreateEnvWithGlobalThreadPools = environment;
  calls.DisableTelemetryEvents = accept;
  calls.ReleaseEnv = release;
  calls.CreateCpuMemoryInfo = memory;
  calls.ReleaseMemoryInfo = release;
  calls.CreateRunOptions = make;
  calls.RunOptionsSetRunLogSeverityLevel = accept;
  calls.RunOptionsSetTerminate = stop;
  calls.ReleaseRunOptions = release;
  calls.CreateSessionOptions = make;
  calls.SetSessionLogSeverityLevel = accept;
  calls.DisablePerSessionThreads = share;
  calls.SetIntraOpNumThreads = accept;
  calls.SetInterOpNumThreads = accept;
  calls.DisableCpuMemArena = accept;
  calls.DisableMemPattern = accept;
  calls.AddSessionConfigEntry = accept;
  calls.ReleaseSessionOptions = release;
  calls.CreateSessionFromArray = open;
  calls.ReleaseSession = release;
  calls.Run = run;
  calls.GetAllocatorWithDefaultOptions = allocator;
  calls.CreateTensorAsOrtValue = allocated;
  calls.CreateTensorWithDataAsOrtValue = over;
  calls.GetTensorMutableData = data_of;
  calls.GetTensorTypeAndShape = info_of;
  calls.GetTensorElementType = dtype_of;
  calls.GetDimensionsCount = rank_of;
  calls.GetDimensions = shape_of;
  calls.ReleaseTensorTypeAndShapeInfo = release;
  calls.ReleaseValue = release;
#define FAKE_PLACE(place, name, result, parameters) places[place] = reinterpret_cast<void *>(calls.name);
  EFFBERT_ORT_CALLS(FAKE_PLACE)
  return places;
}

const void *interface(std::uint32_t) {
  static const void *functions = table();
  return functions;
}
const char *version() { return "1.99.0"; }

struct Base {
  const void *(*GetApi)(std::uint32_t);
  const char *(*GetVersionString)();
};

}  // namespace

extern "C" {
const Base *OrtGetApiBase() {
  static const Base base = {interface, version};
  return &base;
}
void fake_waits(int microseconds) { wait_us = microseconds; }
void fake_takes(int rows) { most_rows = rows; }
void fake_host_was_first(bool first) { host_has_environment = first; }
int fake_objects() { return live; }
}
