// Segments as sessions of onnxruntime.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bundle.hpp"
#include "library.hpp"
#include "value.hpp"

namespace effbert::detail {

enum class Pool { shared, own, none };

// What computes the segments of a bundle, and with how many threads.
struct EngineSettings {
  int threads = 1;
  Pool pool = Pool::shared;
  bool blocks = false;  // of weights of 4 or 8 bits, that meet activations rounded block by block
  int gpu = -1;         // index of the GPU; -1: the CPU computes
};

// Options of one call.
class RunOptions {
 public:
  explicit RunOptions(const Library &library);
  const OrtRunOptions *get() const { return options_.get(); }
  void stop();  // from any thread: the run ends as soon as it can

 private:
  const Library &library_;
  std::unique_ptr<OrtRunOptions, void (*)(OrtRunOptions *)> options_;
};

// One loaded segment. Any number of threads may run it.
class Graph {
 public:
  Graph(const Library &library, OrtSession *session, std::string file)
      : library_(library), session_(session, library.calls().ReleaseSession), file_(std::move(file)) {}

  // Computes the outputs in the order of their names.
  std::vector<Value> run(const std::vector<const char *> &inputs, const std::vector<Value> &values,
                         const std::vector<const char *> &outputs, const RunOptions &options) const;
  const std::string &file() const { return file_; }

 private:
  const Library &library_;
  std::unique_ptr<OrtSession, void (*)(OrtSession *)> session_;
  std::string file_;
};

// Opens segments; all sessions of a process that may share a pool do.
class Engine {
 public:
  Engine(Library &library, const EngineSettings &settings);

  // Makes a segment executable from its checked bytes; `weights` are those of weights.bin, or null.
  // Throws EngineError, ResourceError.
  Graph load(const std::string &file, const Bytes &model, Bytes *weights);

  const Library &library() const { return library_; }
  const EngineSettings &settings() const { return settings_; }  // as they turned out
  const OrtMemoryInfo *memory() const { return memory_.get(); }
  const RunOptions &quiet() const { return quiet_; }  // of calls that nobody cancels

 private:
  using Options = std::unique_ptr<OrtSessionOptions, void (*)(OrtSessionOptions *)>;
  Options session_options(Bytes *weights) const;
  void compute_on_gpu(OrtSessionOptions *options) const;
  OrtSession *open(const std::string &file, const Bytes &model, Bytes *weights) const;
  void choose_pool(const std::string &file, const Bytes &model, Bytes *weights);

  Library &library_;
  EngineSettings settings_;
  std::shared_ptr<Environment> environment_;
  std::unique_ptr<OrtMemoryInfo, void (*)(OrtMemoryInfo *)> memory_;
  RunOptions quiet_;
};

}  // namespace effbert::detail
