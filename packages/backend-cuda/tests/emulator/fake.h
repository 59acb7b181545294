// What the libraries without a GPU share: planned failures, and the streams of the driver.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>

#define FAKE extern "C" __attribute__((visibility("default")))

namespace fake {

const char* env(const char* name, const char* fallback);
/** The result that was asked for this call, or 0. */
int planned(const char* symbol);
/** Runs at once, or keeps it for the graph. */
int enqueue(void* stream, std::function<void()> work);
bool capturing(void* stream);
bool inside(uint64_t p, size_t bytes);
/** Work that never ends was put on the device, or ended after all: events wait for it. */
void stick(int by);

}  // namespace fake

#define MAYBE_FAIL(symbol) \
  if (const int planned_ = fake::planned(#symbol)) return planned_
