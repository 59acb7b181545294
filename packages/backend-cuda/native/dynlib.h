// Opening shared libraries, on POSIX and Windows.
#pragma once
#include <string>

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace lowrank {

inline void* openLibrary(const std::string& path, std::string* why) {
#ifdef _WIN32
  void* os = reinterpret_cast<void*>(LoadLibraryA(path.c_str()));
  if (!os) *why = "LoadLibrary failed with error " + std::to_string(GetLastError());
#else
  void* os = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!os) {
    const char* text = dlerror();
    *why = text ? text : "dlopen failed";
  }
#endif
  return os;
}

inline void* findSymbol(void* os, const char* name) {
#ifdef _WIN32
  return reinterpret_cast<void*>(GetProcAddress(reinterpret_cast<HMODULE>(os), name));
#else
  return dlsym(os, name);
#endif
}

/** The file that a library was loaded from, as far as the system tells. */
inline std::string libraryFile(void* symbol, const std::string& fallback) {
#ifndef _WIN32
  Dl_info info;
  if (symbol && dladdr(symbol, &info) && info.dli_fname) return info.dli_fname;
#endif
  return fallback;
}

}  // namespace lowrank
