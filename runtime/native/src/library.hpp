// onnxruntime, loaded by name, and its environment.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "ort_calls.hpp"

namespace effbert::detail {

class Library;

// onnxruntime's environment, of which a loaded library has one. Sessions share it; the last one to
// close releases it, and its threads end.
class Environment {
 public:
  Environment(const Library &library, int threads);
  ~Environment();
  Environment(const Environment &) = delete;
  Environment &operator=(const Environment &) = delete;

  OrtEnv *get() const { return env_; }
  int threads() const { return threads_; }  // of the pool that all sessions may share

  // Whether sessions may use the pool: not where the host made the environment before us. It shows
  // when the first session opens.
  enum class Pool { untried, works, refused };
  Pool pool() const;
  void found(Pool pool);

 private:
  const Library &library_;
  OrtEnv *env_ = nullptr;
  int threads_;
  mutable std::mutex mutex_;
  Pool pool_ = Pool::untried;
};

// A loaded onnxruntime. It stays loaded: it has threads and objects of its own that outlive sessions.
class Library {
 public:
  // Loads a library once; `name` is a path, or what the system's loader finds, or empty for
  // onnxruntime's usual name. Throws MissingLibraryError.
  static Library &load(const std::string &name);

  const OrtCalls &calls() const { return calls_; }
  const std::string &version() const { return version_; }

  // The environment; one that is there already keeps its number of threads.
  std::shared_ptr<Environment> environment(int threads);

  // Throws EngineError or ResourceError for a status that is an error, whose text is `what` and why.
  void check(OrtStatus *status, const std::string &what) const;

 private:
  Library(const void *table, std::string version);

  OrtCalls calls_;
  std::string version_;
  std::mutex mutex_;
  std::weak_ptr<Environment> environment_;
};

}  // namespace effbert::detail
