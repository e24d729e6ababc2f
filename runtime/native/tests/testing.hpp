// What the C++ tests share: requirements, and a bundle of the fake onnxruntime.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "effbert.hpp"
#include "sha256.hpp"

#define REQUIRE(condition)                                                            \
  do {                                                                                \
    if (condition) break;                                                             \
    std::fprintf(stderr, "%s:%d: not so: %s (%s)\n", __FILE__, __LINE__, #condition,  \
                 effbert_last_error());                                               \
    std::_Exit(1); /* other threads may still run */                                  \
  } while (0)

constexpr int fake_exits = 3;

// Writes a bundle of three exits into a new folder, and returns it.
inline std::string write_fake_bundle(const std::string &name) {
  const std::string inputs = R"({"name": "input_ids", "dtype": "int64", "axes": ["batch", "sequence"]},
    {"name": "attention_mask", "dtype": "int64", "axes": ["batch", "sequence"]})";
  const std::string seen = R"("dtype": "float32", "axes": ["batch", "sequence"])";
  const auto folder = std::filesystem::temp_directory_path() / ("effbert-test-" + name);
  std::filesystem::create_directories(folder);
  std::string segments, files;
  for (int k = 0; k < fake_exits; ++k) {
    const std::string file = "segment-0" + std::to_string(k) + ".onnx", text = "fake " + std::to_string(k);
    std::ofstream(folder / file) << text;
    files += std::string(k ? ", " : "") + "\"" + file + "\": {\"size\": " + std::to_string(text.size()) +
             ", \"sha256\": \"" + effbert::detail::sha256(text.data(), text.size()) + "\"}";
    segments += std::string(k ? ", " : "") + "{\"file\": \"" + file + "\", \"layer\": " +
                std::to_string(k + 1) + ", \"inputs\": [" + inputs + ", {\"name\": \"seen\", " + seen +
                R"(}, {"name": "threshold", "dtype": "float32", "axes": []}], "outputs": [
        {"name": "exit", "dtype": "bool", "axes": ["batch"]},
        {"name": "signal", "dtype": "float32", "axes": ["batch"]},
        {"name": "logits", "dtype": "float32", "axes": ["batch", 2]},
        {"name": "seen_out", )" + seen + R"(}], "carries": {"seen": "seen_out"}, "parameters": 0,
        "flops": [0, 0, 0]})";
  }
  std::ofstream(folder / "effbert.json") << R"({"format": "effbert-bundle", "version": [1, 1],
    "min_reader": [1, 1], "producer": {}, "source": {"name": "fake", "sha256": "", "format": "",
    "architecture": "", "paper": ""}, "task": "text-classification", "problem": "single-label",
    "labels": ["no", "yes"], "limits": {"max_length": 64, "vocab_size": 1000}, "padding_free": true,
    "tokenizer": null, "inputs": [)" << inputs << R"(], "outputs": ["logits"], "states": [{"name":
    "seen", )" << seen << R"(, "initial": 0}], "segments": [)" << segments << R"(], "policy": {"name":
    "", "rule": "", "paper": ""}, "knobs": [{"name": "threshold", "dtype": "float32", "minimum": 0,
    "maximum": 1, "default": 0, "never": 0, "per_exit": true, "raising": "earlier"}],
    "operating_points": [], "golden": [], "parity": null, "files": {)" << files << "}}";
  return folder.string();
}

// Token ids of rows that leave at these exits, with padding at the end of all but the longest.
struct Rows {
  explicit Rows(const std::vector<int> &exits, std::int64_t length = 8) : ids(exits.size() * 8), mask(ids) {
    shape = {sizeof shape, static_cast<std::int64_t>(exits.size()), length, ids.data(), mask.data(),
             nullptr, nullptr};
    for (std::size_t row = 0; row < exits.size(); ++row) {
      for (std::size_t i = 0; i < static_cast<std::size_t>(length); ++i) {
        ids[row * 8 + i] = i ? static_cast<std::int64_t>(row + i) : 5 + exits[row];
        mask[row * 8 + i] = i < 2 + row % 7;
      }
    }
  }
  float sum(std::size_t row) const {
    float total = 0;
    for (std::size_t i = 0; i < 8; ++i) total += static_cast<float>(ids[row * 8 + i] * mask[row * 8 + i]);
    return total;
  }
  std::vector<std::int64_t> ids, mask;
  effbert_ids shape;
};

inline effbert::Options fake_options() {
  effbert::Options options;
  options.onnxruntime = FAKE_ONNXRUNTIME;
  return options;
}

// Requires that rows got the answers of these exits.
inline void require_answers(const effbert::Result &result, const Rows &rows, const std::vector<int> &exits,
                            float threshold = 0) {
  const effbert::Array<float> logits = result.output("logits");
  REQUIRE(result.rows() == static_cast<std::int64_t>(exits.size()));
  for (std::size_t row = 0; row < exits.size(); ++row) {
    REQUIRE(result.exits()[row] == exits[row]);
    REQUIRE(result.layers().values[row] == exits[row] + 1);
    REQUIRE(logits.values[2 * row] == rows.sum(row));
    REQUIRE(logits.values[2 * row + 1] == static_cast<float>(exits[row]) + threshold);
  }
}
