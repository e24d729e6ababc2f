// A bundle on disk: its manifest, and its files as bytes that were checked.
#pragma once

#include <string>
#include <vector>

#include "manifest.hpp"

namespace effbert::detail {

using Bytes = std::vector<unsigned char>;

struct Bundle {
  std::string folder;
  Manifest manifest;

  // Reads a file of the manifest; the bytes returned are those that were hashed.
  //
  // Throws PathError or IntegrityError if it is not what the manifest promises, ResourceError if it
  // does not fit into memory.
  Bytes read(const std::string &name) const;
};

// Reads the manifest and compares the size of every file. Throws BundleError.
Bundle open_bundle(const std::string &folder);

}  // namespace effbert::detail
