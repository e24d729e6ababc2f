#include "graph.hpp"

#include "external_data.hpp"
#include "run_errors.hpp"

namespace effbert::detail {
namespace {

// External data is looked up in memory first and then in this folder: only weights.bin as it was
// checked can be found, whatever a segment refers to.
constexpr const char *external_folder = "session.model_external_initializers_file_folder_path";
constexpr const char *nowhere = "/effbert/no-external-files";
constexpr const char *no_start = "onnxruntime could not start";

OrtRunOptions *new_run_options(const Library &library) {
  OrtRunOptions *options = nullptr;
  library.check(library.calls().CreateRunOptions(&options), no_start);
  return options;
}

OrtMemoryInfo *new_memory_info(const Library &library) {
  OrtMemoryInfo *info = nullptr;
  library.check(library.calls().CreateCpuMemoryInfo(ort_arena_allocator, ort_memory_default, &info),
                no_start);
  return info;
}

}  // namespace

RunOptions::RunOptions(const Library &library)
    : library_(library), options_(new_run_options(library), library.calls().ReleaseRunOptions) {
  // A failure is told by its status alone, not on stderr too.
  library.check(library.calls().RunOptionsSetRunLogSeverityLevel(options_.get(), ort_fatal), no_start);
}

void RunOptions::stop() {
  library_.check(library_.calls().RunOptionsSetTerminate(options_.get()),
                 "onnxruntime could not stop a run");
}

std::vector<Value> Graph::run(const std::vector<const char *> &inputs,
                              const std::vector<Value> &values,
                              const std::vector<const char *> &outputs,
                              const RunOptions &options) const {
  std::vector<const OrtValue *> fed;
  fed.reserve(values.size());
  for (const Value &value : values) fed.push_back(value.get());
  std::vector<OrtValue *> made(outputs.size(), nullptr);
  library_.check(library_.calls().Run(session_.get(), options.get(), inputs.data(), fed.data(),
                                      fed.size(), outputs.data(), made.size(), made.data()),
                 "onnxruntime could not run " + file_);
  std::vector<Value> found;
  found.reserve(made.size());
  try {
    for (OrtValue *&value : made) {
      OrtValue *taken = value;
      value = nullptr;
      found.emplace_back(library_, taken);
    }
  } catch (...) {
    for (OrtValue *value : made) library_.calls().ReleaseValue(value);
    throw;
  }
  return found;
}

Engine::Engine(Library &library, const EngineSettings &settings)
    : library_(library),
      settings_(settings),
      environment_(library.environment(settings.pool == Pool::shared ? settings.threads : 1)),
      memory_(new_memory_info(library), library.calls().ReleaseMemoryInfo),
      quiet_(library) {
  if (settings_.pool == Pool::none) settings_.threads = 1;
  if (settings_.pool != Pool::shared) return;
  if (environment_->pool() == Environment::Pool::refused ||
      environment_->threads() != settings_.threads) {
    settings_.pool = Pool::own;
  }
}

Graph Engine::load(const std::string &file, const Bytes &model, Bytes *weights) {
  require_no_other_files(file, model);
  if (settings_.pool == Pool::shared && environment_->pool() == Environment::Pool::untried) {
    choose_pool(file, model, weights);
  }
  return Graph(library_, open(file, model, weights), file);
}

// Opens a segment to see whether there is a shared pool: the host may have made the environment first.
void Engine::choose_pool(const std::string &file, const Bytes &model, Bytes *weights) {
  try {
    library_.calls().ReleaseSession(open(file, model, weights));
    environment_->found(Environment::Pool::works);
  } catch (const EngineError &) {
    settings_.pool = Pool::own;
    library_.calls().ReleaseSession(open(file, model, weights));  // or it fails for another reason
    environment_->found(Environment::Pool::refused);
  }
}

OrtSession *Engine::open(const std::string &file, const Bytes &model, Bytes *weights) const {
  const Options options = session_options(weights);
  OrtSession *session = nullptr;
  library_.check(library_.calls().CreateSessionFromArray(environment_->get(), model.data(),
                                                         model.size(), options.get(), &session),
                 "onnxruntime could not open " + file);
  return session;
}

// Whatever decides about bits is as in runtime/engines/onnxruntime/engine.py.
Engine::Options Engine::session_options(Bytes *weights) const {
  const OrtCalls &ort = library_.calls();
  OrtSessionOptions *raw = nullptr;
  library_.check(ort.CreateSessionOptions(&raw), no_start);
  Options options(raw, ort.ReleaseSessionOptions);
  const auto set = [&](OrtStatus *status) { library_.check(status, no_start); };
  set(ort.SetSessionLogSeverityLevel(raw, ort_fatal));
  if (settings_.pool == Pool::shared) {
    set(ort.DisablePerSessionThreads(raw));
  } else {
    set(ort.SetIntraOpNumThreads(raw, settings_.threads));
    set(ort.SetInterOpNumThreads(raw, 1));
  }
  // Idle threads of a segment would keep the cores from the next one.
  set(ort.AddSessionConfigEntry(raw, "session.force_spinning_stop", "1"));
  if (settings_.gpu < 0) {
    set(ort.DisableCpuMemArena(raw));  // each segment would keep the peak of its largest batch
    set(ort.DisableMemPattern(raw));
    set(ort.AddSessionConfigEntry(raw, "session.qdq_matmulnbits_accuracy_level",
                                  settings_.blocks ? "4" : "1"));
  } else {
    compute_on_gpu(raw);
  }
  set(ort.AddSessionConfigEntry(raw, external_folder, nowhere));
  if (weights != nullptr) {
    const char *name = weights_name;
    char *data = reinterpret_cast<char *>(weights->data());
    const std::size_t size = weights->size();
    set(ort.AddExternalInitializersFromFilesInMemory(raw, &name, &data, &size, 1));
  }
  return options;
}

void Engine::compute_on_gpu(OrtSessionOptions *options) const {
  const OrtCalls &ort = library_.calls();
  OrtCUDAProviderOptionsV2 *raw = nullptr;
  const std::string what = "onnxruntime has no CUDA provider that works here";
  library_.check(ort.CreateCUDAProviderOptions(&raw), what);
  const std::unique_ptr<OrtCUDAProviderOptionsV2, void (*)(OrtCUDAProviderOptionsV2 *)> cuda(
      raw, ort.ReleaseCUDAProviderOptions);
  const std::string index = std::to_string(settings_.gpu);
  const char *const keys[] = {"device_id", "use_tf32"};
  const char *const values[] = {index.c_str(), "0"};
  library_.check(ort.UpdateCUDAProviderOptions(raw, keys, values, 2), what);
  library_.check(ort.SessionOptionsAppendExecutionProvider_CUDA_V2(options, raw), what);
}

}  // namespace effbert::detail
