// The few calls of onnxruntime that a chain needs, by their place in its table of functions.
//
// The order of that table never changes (onnxruntime_c_api.h says so), and a newer library serves
// every older number of its interface. So no header is needed to build, and one binary serves all
// versions; src/check_abi.cpp compares this list with a header where there is one.
#pragma once

#include <cstddef>
#include <cstdint>

struct OrtStatus;
struct OrtEnv;
struct OrtThreadingOptions;
struct OrtSessionOptions;
struct OrtSession;
struct OrtRunOptions;
struct OrtValue;
struct OrtTensorTypeAndShapeInfo;
struct OrtMemoryInfo;
struct OrtAllocator;
struct OrtCUDAProviderOptionsV2;

namespace effbert::detail {

constexpr std::uint32_t ort_interface = 21;  // the oldest that has all of these
constexpr int oldest_minor = 23;             // of version 1 that is tested

// Values of its enumerations.
constexpr int ort_fatal = 4;
constexpr int ort_float32 = 1, ort_int64 = 7, ort_bool = 9;
constexpr int ort_arena_allocator = 1, ort_memory_default = 0;

// CALL(place, name, what it returns, parameters)
#define EFFBERT_ORT_CALLS(CALL)                                                                    \
  CALL(0, CreateStatus, OrtStatus *, (int, const char *))                                          \
  CALL(2, GetErrorMessage, const char *, (const OrtStatus *))                                      \
  CALL(6, DisableTelemetryEvents, OrtStatus *, (const OrtEnv *))                                   \
  CALL(8, CreateSessionFromArray, OrtStatus *,                                                     \
       (const OrtEnv *, const void *, std::size_t, const OrtSessionOptions *, OrtSession **))      \
  CALL(9, Run, OrtStatus *,                                                                        \
       (OrtSession *, const OrtRunOptions *, const char *const *, const OrtValue *const *,         \
        std::size_t, const char *const *, std::size_t, OrtValue **))                               \
  CALL(10, CreateSessionOptions, OrtStatus *, (OrtSessionOptions **))                              \
  CALL(17, DisableMemPattern, OrtStatus *, (OrtSessionOptions *))                                  \
  CALL(19, DisableCpuMemArena, OrtStatus *, (OrtSessionOptions *))                                 \
  CALL(22, SetSessionLogSeverityLevel, OrtStatus *, (OrtSessionOptions *, int))                    \
  CALL(24, SetIntraOpNumThreads, OrtStatus *, (OrtSessionOptions *, int))                          \
  CALL(25, SetInterOpNumThreads, OrtStatus *, (OrtSessionOptions *, int))                          \
  CALL(39, CreateRunOptions, OrtStatus *, (OrtRunOptions **))                                      \
  CALL(41, RunOptionsSetRunLogSeverityLevel, OrtStatus *, (OrtRunOptions *, int))                  \
  CALL(46, RunOptionsSetTerminate, OrtStatus *, (OrtRunOptions *))                                 \
  CALL(48, CreateTensorAsOrtValue, OrtStatus *,                                                    \
       (OrtAllocator *, const std::int64_t *, std::size_t, int, OrtValue **))                      \
  CALL(49, CreateTensorWithDataAsOrtValue, OrtStatus *,                                            \
       (const OrtMemoryInfo *, void *, std::size_t, const std::int64_t *, std::size_t, int,        \
        OrtValue **))                                                                              \
  CALL(51, GetTensorMutableData, OrtStatus *, (OrtValue *, void **))                               \
  CALL(60, GetTensorElementType, OrtStatus *, (const OrtTensorTypeAndShapeInfo *, int *))          \
  CALL(61, GetDimensionsCount, OrtStatus *, (const OrtTensorTypeAndShapeInfo *, std::size_t *))    \
  CALL(62, GetDimensions, OrtStatus *,                                                             \
       (const OrtTensorTypeAndShapeInfo *, std::int64_t *, std::size_t))                           \
  CALL(65, GetTensorTypeAndShape, OrtStatus *, (const OrtValue *, OrtTensorTypeAndShapeInfo **))   \
  CALL(69, CreateCpuMemoryInfo, OrtStatus *, (int, int, OrtMemoryInfo **))                         \
  CALL(78, GetAllocatorWithDefaultOptions, OrtStatus *, (OrtAllocator **))                         \
  CALL(92, ReleaseEnv, void, (OrtEnv *))                                                           \
  CALL(93, ReleaseStatus, void, (OrtStatus *))                                                     \
  CALL(94, ReleaseMemoryInfo, void, (OrtMemoryInfo *))                                             \
  CALL(95, ReleaseSession, void, (OrtSession *))                                                   \
  CALL(96, ReleaseValue, void, (OrtValue *))                                                       \
  CALL(97, ReleaseRunOptions, void, (OrtRunOptions *))                                             \
  CALL(99, ReleaseTensorTypeAndShapeInfo, void, (OrtTensorTypeAndShapeInfo *))                     \
  CALL(100, ReleaseSessionOptions, void, (OrtSessionOptions *))                                    \
  CALL(119, CreateEnvWithGlobalThreadPools, OrtStatus *,                                           \
       (int, const char *, const OrtThreadingOptions *, OrtEnv **))                                \
  CALL(120, DisablePerSessionThreads, OrtStatus *, (OrtSessionOptions *))                          \
  CALL(121, CreateThreadingOptions, OrtStatus *, (OrtThreadingOptions **))                         \
  CALL(122, ReleaseThreadingOptions, void, (OrtThreadingOptions *))                                \
  CALL(130, AddSessionConfigEntry, OrtStatus *, (OrtSessionOptions *, const char *, const char *)) \
  CALL(147, SetGlobalIntraOpNumThreads, OrtStatus *, (OrtThreadingOptions *, int))                 \
  CALL(148, SetGlobalInterOpNumThreads, OrtStatus *, (OrtThreadingOptions *, int))                 \
  CALL(149, SetGlobalSpinControl, OrtStatus *, (OrtThreadingOptions *, int))                       \
  CALL(204, SessionOptionsAppendExecutionProvider_CUDA_V2, OrtStatus *,                            \
       (OrtSessionOptions *, const OrtCUDAProviderOptionsV2 *))                                    \
  CALL(205, CreateCUDAProviderOptions, OrtStatus *, (OrtCUDAProviderOptionsV2 **))                 \
  CALL(206, UpdateCUDAProviderOptions, OrtStatus *,                                                \
       (OrtCUDAProviderOptionsV2 *, const char *const *, const char *const *, std::size_t))        \
  CALL(208, ReleaseCUDAProviderOptions, void, (OrtCUDAProviderOptionsV2 *))                        \
  CALL(279, AddExternalInitializersFromFilesInMemory, OrtStatus *,                                 \
       (OrtSessionOptions *, const char *const *, char *const *, const std::size_t *, std::size_t))

struct OrtCalls {
#define EFFBERT_MEMBER(place, name, result, parameters) result(*name) parameters;
  EFFBERT_ORT_CALLS(EFFBERT_MEMBER)
#undef EFFBERT_MEMBER

  // Takes the functions from the table that GetApi returned.
  explicit OrtCalls(const void *table) {
    const auto *functions = static_cast<void *const *>(table);
#define EFFBERT_TAKE(place, name, result, parameters) \
  name = reinterpret_cast<result(*) parameters>(functions[place]);
    EFFBERT_ORT_CALLS(EFFBERT_TAKE)
#undef EFFBERT_TAKE
  }
};

}  // namespace effbert::detail
