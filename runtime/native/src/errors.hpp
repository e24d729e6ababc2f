// What the library throws inside; nothing of it crosses the C interface.
#pragma once

#include <stdexcept>
#include <string>

namespace effbert::detail {

// The user's bundle cannot be used: one sentence that says what is wrong, where, and what to do.
struct BundleError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A field of effbert.json is wrong; the message names its JSON path.
struct ManifestError : BundleError {
  using BundleError::BundleError;
};

// The bundle needs a newer reader.
struct VersionError : BundleError {
  using BundleError::BundleError;
};

// A file name leads out of the bundle, or is no regular file.
struct PathError : BundleError {
  using BundleError::BundleError;
};

// A file is missing, or has another size or hash than the manifest says.
struct IntegrityError : BundleError {
  using BundleError::BundleError;
};

// A part of tokenizer.json is not known exactly; texts are refused, token ids still work.
struct TokenizerError : BundleError {
  using BundleError::BundleError;
};

// What the caller passed cannot be answered.
struct InputError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace effbert::detail
