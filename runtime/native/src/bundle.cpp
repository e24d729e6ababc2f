#include "bundle.hpp"

#include <sys/stat.h>

#include <new>
#include <string_view>

#include "paths.hpp"
#include "run_errors.hpp"
#include "sha256.hpp"

namespace effbert::detail {
namespace {

void compare_size(const std::string &name, std::uint64_t found, std::int64_t expected) {
  if (found == static_cast<std::uint64_t>(expected)) return;
  throw IntegrityError(name + " has " + std::to_string(found) + " bytes, the manifest says " +
                       std::to_string(expected) + "; copy or export the bundle again.");
}

}  // namespace

Bundle open_bundle(const std::string &folder) {
  struct stat found;
  if (stat(folder.c_str(), &found) != 0 || !S_ISDIR(found.st_mode)) {
    throw BundleError("There is no folder " + folder + "; the bundle is a folder with " +
                      manifest_name + ".");
  }
  if (lstat((folder + "/" + manifest_name).c_str(), &found) != 0) {
    throw BundleError(folder + " is not a bundle: it holds no " + manifest_name + ".");
  }
  const Bytes data = open_file(folder, manifest_name).read(most_manifest_bytes + 1);
  const std::string_view text(reinterpret_cast<const char *>(data.data()), data.size());
  Bundle bundle{folder, read_manifest(text)};
  for (const auto &[name, record] : bundle.manifest.files) {
    compare_size(name, open_file(folder, name).size(), record.size);
  }
  return bundle;
}

Bytes Bundle::read(const std::string &name) const {
  const auto record = manifest.files.find(name);
  if (record == manifest.files.end()) {
    throw PathError("The manifest lists no file '" + name + "'.");
  }
  const auto &[size, expected] = record->second;
  const File file = open_file(folder, name);
  compare_size(name, file.size(), size);
  Bytes data;
  try {
    // The extra byte shows a file that grew since.
    data = file.read(static_cast<std::uint64_t>(size) + 1);
  } catch (const std::bad_alloc &) {
    throw ResourceError(name + " does not fit into memory: it has " + std::to_string(size) +
                        " bytes.");
  }
  compare_size(name, data.size(), size);
  const std::string found = sha256(data.data(), data.size());
  if (found != expected) {
    throw IntegrityError(name + " is damaged: its sha256 is " + found.substr(0, 12) +
                         ", the manifest says " + expected.substr(0, 12) +
                         "; copy or export the bundle again.");
  }
  return data;
}

}  // namespace effbert::detail
