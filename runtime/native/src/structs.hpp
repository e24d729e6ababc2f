// The structs of the C header: each begins with its size, which an older program has smaller.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>

#include "effbert.h"
#include "session.hpp"

namespace effbert::detail {

template <typename T>
void check_size(std::size_t size) {
  if (size < sizeof(std::size_t) || size > 4096) {
    throw InputError("A struct begins with a size of " + std::to_string(size) +
                     "; set it to the sizeof of its type.");
  }
}

// Fills a caller's struct as far as the caller knows it.
template <typename T>
void write_struct(T made, T *target, std::size_t size) {
  check_size<T>(size);
  made.size = size;
  std::memcpy(target, &made, std::min(size, sizeof(T)));
}

// Reads a caller's struct over zeros, or over what `init` says.
template <typename T>
void read_struct(const T *given, T &read, effbert_status (*init)(T *, std::size_t) = nullptr) {
  if (init != nullptr) init(&read, sizeof read);
  if (given == nullptr) return;
  check_size<T>(given->size);
  std::memcpy(&read, given, std::min(given->size, sizeof(T)));
}

effbert_session_info session_info(const Session &session);
// These two throw InputError if there is none of this index.
effbert_knob_info knob_info(const Manifest &manifest, std::int64_t index);
effbert_output_info output_info(const Manifest &manifest, std::int64_t index);

// Throws InputError if there is not enough room; `count` is set in any case.
void write_tokens(const Encoding &encoding, effbert_token_list &tokens);

// The index of a device such as "cuda:1"; -1 for the CPU. Throws InputError for other names.
int gpu_index(const std::string &device);

}  // namespace effbert::detail
