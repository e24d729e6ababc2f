#include "paths.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <system_error>

#include "errors.hpp"

namespace effbert::detail {
namespace {

constexpr int most_links = 40;
constexpr std::size_t longest_name = 128;

std::string why(int code) { return std::generic_category().message(code); }

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// Devices of Windows: "con", "com1.txt", whatever the case.
bool is_device(std::string_view name) {
  std::string stem(name.substr(0, name.find('.')));
  for (char &c : stem)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  for (const char *device : {"con", "prn", "aux", "nul"})
    if (stem == device) return true;
  const bool numbered = stem.size() == 4 && stem[3] >= '0' && stem[3] <= '9';
  return numbered && (stem.compare(0, 3, "com") == 0 || stem.compare(0, 3, "lpt") == 0);
}

std::string joined(const std::string &folder, const std::string &part) {
  return folder == "/" ? "/" + part : folder + "/" + part;
}

std::string parent(const std::string &path) {
  const std::size_t slash = path.rfind('/');
  return slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
}

std::string last_part(const std::string &path) { return path.substr(path.rfind('/') + 1); }

std::vector<std::string> parts_of(const std::string &path) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at < path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    const std::string part = path.substr(at, end - at);
    if (!part.empty() && part != ".") parts.push_back(part);
    at = end + 1;
  }
  return parts;
}

// The folders that links of a bundle may lead to: its own, and the blobs of its model.
std::vector<std::string> places_of(const std::string &root) {
  for (std::string above = root; above != "/";) {
    above = parent(above);
    const std::string model = parent(above);
    if (last_part(above) == "snapshots" && last_part(model).compare(0, 8, "models--") == 0)
      return {root, joined(model, "blobs")};
  }
  return {root};
}

const std::string &place_of(const std::string &path, const std::vector<std::string> &places,
                            const std::string &name) {
  for (const std::string &place : places) {
    const std::string inside = place == "/" ? "/" : place + "/";
    if (path.size() > inside.size() && path.compare(0, inside.size(), inside) == 0) return place;
  }
  throw PathError(name + " is a symbolic link that leads out of the bundle; copy the bundle with "
                         "its links resolved (cp -rL).");
}

std::string read_link(const std::string &path) {
  std::array<char, PATH_MAX> target;
  const ssize_t size = readlink(path.c_str(), target.data(), target.size());
  return size < 0 ? std::string() : std::string(target.data(), static_cast<std::size_t>(size));
}

bool is_link(const std::string &path) {
  struct stat found;
  return lstat(path.c_str(), &found) == 0 && S_ISLNK(found.st_mode);
}

// What a file of a bundle is when all links are followed, one by one: the folder that it must not
// leave, and its path in there.
std::pair<std::string, std::string> follow_links(const std::string &root, const std::string &name) {
  const std::vector<std::string> places = places_of(root);
  std::string path = root;
  std::vector<std::string> left = {name};
  for (int links = 0; !left.empty();) {
    const std::string part = left.back();
    left.pop_back();
    if (part == "..") {
      path = parent(path);
      continue;
    }
    const std::string step = joined(path, part);
    if (!is_link(step)) {
      path = step;
      continue;
    }
    place_of(step, places, name);
    if (++links > most_links)
      throw PathError(name + " is a symbolic link that leads in a circle.");
    const std::string target = read_link(step);
    if (!target.empty() && target[0] == '/') path = "/";
    const std::vector<std::string> parts = parts_of(target);
    left.insert(left.end(), parts.rbegin(), parts.rend());
  }
  const std::string &place = place_of(path, places, name);
  return {place, path.substr(place == "/" ? 1 : place.size() + 1)};
}

[[noreturn]] void refuse(const std::string &name, bool link, int code) {
  if (code == ENOENT)
    throw IntegrityError(name + (link ? " links to a file that is missing" : " is missing") +
                         "; copy or export the bundle again.");
  if (code == ELOOP || code == EMLINK)
    throw PathError(name + " is a symbolic link that leads in a circle.");
  throw BundleError(name + " cannot be opened: " + why(code) + ".");
}

// Opens a path below a folder; no part of it may be a link.
int open_below(const std::string &place, const std::string &path) {
  int folder = open(place.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::vector<std::string> parts = parts_of(path);
  for (std::size_t k = 0; folder >= 0 && k < parts.size(); ++k) {
    // O_NONBLOCK: opening a named pipe returns at once instead of waiting for a writer.
    const int kind = k + 1 < parts.size() ? O_DIRECTORY : O_NONBLOCK;
    const int inner = openat(folder, parts[k].c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | kind);
    const int code = errno;
    close(folder);
    folder = inner;
    errno = code;
  }
  return folder;
}

}  // namespace

std::string name_problem(std::string_view name) {
  bool plain = !name.empty() && name.size() <= longest_name && is_letter_or_digit(name[0]);
  for (const char c : name)
    plain = plain && (is_letter_or_digit(c) || c == '.' || c == '_' || c == '-');
  if (!plain) return "is not a plain file name of letters, digits, '.', '_' and '-'";
  if (name.find("..") != name.npos || name.back() == '.')
    return "has two dots in a row or a dot at its end";
  if (is_device(name)) return "is the name of a device on Windows";
  return "";
}

File::~File() {
  if (descriptor_ >= 0) close(descriptor_);
}

std::uint64_t File::size() const {
  struct stat found;
  if (fstat(descriptor_, &found) != 0)
    throw BundleError("A file of the bundle cannot be read: " + why(errno) + ".");
  return static_cast<std::uint64_t>(found.st_size);
}

std::vector<unsigned char> File::read(std::uint64_t most) const {
  std::vector<unsigned char> data(static_cast<std::size_t>(std::min(most, size() + 1)));
  std::size_t held = 0;
  while (held < data.size()) {
    const std::size_t wanted = std::min<std::size_t>(data.size() - held, 1u << 30);
    const ssize_t got = ::read(descriptor_, data.data() + held, wanted);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw BundleError("A file of the bundle cannot be read: " + why(errno) + ".");
    if (got == 0) break;
    held += static_cast<std::size_t>(got);
  }
  data.resize(held);
  return data;
}

File open_file(const std::string &folder, std::string_view name) {
  const std::string problem = name_problem(name);
  const std::string own(name.substr(0, longest_name));
  if (!problem.empty()) throw PathError("The file name '" + own + "' " + problem + ".");
  char *real = realpath(folder.c_str(), nullptr);
  if (real == nullptr) throw BundleError(folder + " cannot be opened: " + why(errno) + ".");
  const std::string root = real;
  std::free(real);
  const auto [place, path] = follow_links(root, own);
  const int descriptor = open_below(place, path);
  const int code = errno;
  if (descriptor < 0) refuse(own, is_link(joined(root, own)), code);
  File file(descriptor);
  struct stat found;
  if (fstat(descriptor, &found) != 0 || !S_ISREG(found.st_mode))
    throw PathError(own + " is not a regular file.");
  return file;
}

}  // namespace effbert::detail
