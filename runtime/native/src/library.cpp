#include "library.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "run_errors.hpp"

namespace effbert::detail {
namespace {

#if defined(__APPLE__)
constexpr const char *usual_name = "libonnxruntime.dylib";
#else
constexpr const char *usual_name = "libonnxruntime.so.1";
#endif
constexpr std::size_t longest_reason = 300;

struct OrtApiBase {
  const void *(*GetApi)(std::uint32_t);
  const char *(*GetVersionString)();
};

[[noreturn]] void missing(const std::string &name, const std::string &why) {
  throw MissingLibraryError("onnxruntime (" + name + ") " + why +
                            "; install 1.23 or newer, or name its library in the options.");
}

// GetApi prints a line for a number that it does not know, so the version is looked at first.
void require_supported(const std::string &name, const std::string &version) {
  int major = 0, minor = 0;
  if (std::sscanf(version.c_str(), "%d.%d", &major, &minor) != 2 || major != 1 ||
      minor < oldest_minor) {
    missing(name, "has version " + version + ", which is not supported");
  }
}

// From 1.29 on, making an environment starts a thread that reports to Microsoft. We report nothing
// to anybody, unless the user asks for it by ORT_DISABLE_TELEMETRY=0.
void report_nothing() { setenv("ORT_DISABLE_TELEMETRY", "1", 0); }

bool is_out_of_memory(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const char *part : {"failed to allocate", "bad_alloc", "bad allocation", "out of memory"}) {
    if (text.find(part) != std::string::npos) return true;
  }
  return false;
}

// The text on one line.
std::string one_line(const std::string &text) {
  std::string line;
  for (unsigned char c : text) {
    const bool space = std::isspace(c);
    if (!space) line += static_cast<char>(c);
    if (space && !line.empty() && line.back() != ' ') line += ' ';
  }
  return line.substr(0, longest_reason);
}

}  // namespace

Environment::Environment(const Library &library, int threads)
    : library_(library), threads_(threads) {
  const OrtCalls &ort = library.calls();
  OrtThreadingOptions *raw = nullptr;
  library.check(ort.CreateThreadingOptions(&raw), "onnxruntime could not start");
  const std::unique_ptr<OrtThreadingOptions, void (*)(OrtThreadingOptions *)> options(
      raw, ort.ReleaseThreadingOptions);
  library.check(ort.SetGlobalIntraOpNumThreads(raw, threads), "onnxruntime could not start");
  library.check(ort.SetGlobalInterOpNumThreads(raw, 1), "onnxruntime could not start");
  // Awake threads would be quicker over many small segments, but this pool, unlike those of sessions,
  // goes on spinning after a call: some 33 ms of a processor each time.
  library.check(ort.SetGlobalSpinControl(raw, 0), "onnxruntime could not start");
  report_nothing();
  library.check(ort.CreateEnvWithGlobalThreadPools(ort_fatal, "effbert", raw, &env_),
                "onnxruntime could not start");
}

Environment::~Environment() { library_.calls().ReleaseEnv(env_); }

Environment::Pool Environment::pool() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return pool_;
}

void Environment::found(Pool pool) {
  const std::lock_guard<std::mutex> lock(mutex_);
  pool_ = pool;
}

Library::Library(const void *table, std::string version)
    : calls_(table), version_(std::move(version)) {}

Library &Library::load(const std::string &wanted) {
  static auto &mutex = *new std::mutex;
  static auto &loaded = *new std::map<const void *, std::unique_ptr<Library>>;
  const std::string name = wanted.empty() ? usual_name : wanted;
  void *handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char *why = dlerror();
    missing(name, std::string("cannot be loaded (") + (why ? why : "no reason given") + ")");
  }
  const auto base = reinterpret_cast<const OrtApiBase *(*)()>(dlsym(handle, "OrtGetApiBase"));
  if (base == nullptr) missing(name, "is another library: it has no OrtGetApiBase");
  const std::string version = base()->GetVersionString();
  require_supported(name, version);
  const void *table = base()->GetApi(ort_interface);
  if (table == nullptr) missing(name, "does not give the interface it should have");
  const std::lock_guard<std::mutex> lock(mutex);
  std::unique_ptr<Library> &library = loaded[table];
  if (!library) library.reset(new Library(table, version));
  return *library;
}

std::shared_ptr<Environment> Library::environment(int threads) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::shared_ptr<Environment> found = environment_.lock();
  if (!found) {
    found = std::make_shared<Environment>(*this, threads);
    environment_ = found;
  }
  return found;
}

void Library::check(OrtStatus *status, const std::string &what) const {
  if (status == nullptr) return;
  const std::string text = calls_.GetErrorMessage(status);
  calls_.ReleaseStatus(status);
  if (is_out_of_memory(text)) throw ResourceError("onnxruntime ran out of memory: " + what + ".");
  throw EngineError(what + ": " + one_line(text));
}

}  // namespace effbert::detail
