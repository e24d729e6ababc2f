// What a host does with onnxruntime beside us: an environment of its own and a plain session.
#pragma once

#include <dlfcn.h>
#include <unistd.h>

#include <fstream>

#include "ort_calls.hpp"
#include "testing.hpp"

class HostSession {
 public:
  HostSession(const std::string &library, const std::string &model) : calls_(table(library)) {
    std::ifstream stream(model, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
    OrtSessionOptions *options = nullptr;
    REQUIRE(create_env(4, "host", &env_) == nullptr);
    REQUIRE(calls_.CreateSessionOptions(&options) == nullptr);
    REQUIRE(calls_.CreateSessionFromArray(env_, bytes.data(), bytes.size(), options, &session_) == nullptr);
    calls_.ReleaseSessionOptions(options);
  }
  ~HostSession() {
    calls_.ReleaseSession(session_);
    calls_.ReleaseEnv(env_);
  }
  HostSession(const HostSession &) = delete;
  HostSession &operator=(const HostSession &) = delete;

 private:
  struct Base {
    const void *(*GetApi)(std::uint32_t);
  };
  const void *table(const std::string &library) {
    void *handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    REQUIRE(handle != nullptr);
    const void *functions =
        reinterpret_cast<const Base *(*)()>(dlsym(handle, "OrtGetApiBase"))()->GetApi(effbert::detail::ort_interface);
    create_env = reinterpret_cast<decltype(create_env)>(static_cast<void *const *>(functions)[3]);
    return functions;
  }

  OrtStatus *(*create_env)(int, const char *, OrtEnv **) = nullptr;
  effbert::detail::OrtCalls calls_;
  OrtEnv *env_ = nullptr;
  OrtSession *session_ = nullptr;
};

inline long resident_bytes() {
  long total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}
