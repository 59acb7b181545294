// Handles that JavaScript holds: numbers that name a slot and its generation, so that a stale, foreign or invented number
// is an error and never a pointer.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace lowrank {

enum class Kind : uint8_t { None, Library, Device, Stream, Event, Memory, HostMemory, Module, Function, Graph, Plan, Comm };

const char* kindName(Kind kind);

struct Device;

struct Object {
  Kind kind;
  Device* device;
  double id = 0;
  Object(Kind k, Device* d) : kind(k), device(d) {}
  virtual ~Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
};

class Handles {
 public:
  Handles() { slots_.push_back({0, nullptr}); }

  double add(Object* object) {
    uint32_t index;
    if (!free_.empty()) {
      index = free_.back();
      free_.pop_back();
    } else {
      index = static_cast<uint32_t>(slots_.size());
      slots_.push_back({0, nullptr});
    }
    Slot& slot = slots_[index];
    slot.generation = (slot.generation + 1) & 0x3fffffff;
    slot.object = object;
    object->id = static_cast<double>((static_cast<uint64_t>(slot.generation) << kIndexBits) | index);
    return object->id;
  }

  /** The object, or null and a reason. */
  Object* find(double id, Kind kind, std::string* why) const {
    if (!(id >= 1) || id > 9007199254740991.0 || id != static_cast<double>(static_cast<uint64_t>(id))) {
      *why = "not a handle";
      return nullptr;
    }
    const uint64_t bits = static_cast<uint64_t>(id);
    const uint64_t index = bits & ((1u << kIndexBits) - 1);
    const uint64_t generation = bits >> kIndexBits;
    if (index == 0 || index >= slots_.size() || generation == 0 || generation > slots_[index].generation) {
      *why = "not a handle of this process";
      return nullptr;
    }
    const Slot& slot = slots_[index];
    if (slot.object == nullptr || slot.generation != generation) {
      *why = "released or closed before";
      return nullptr;
    }
    if (slot.object->kind != kind) {
      *why = std::string("a handle of a ") + kindName(slot.object->kind);
      return nullptr;
    }
    return slot.object;
  }

  void remove(Object* object) {
    const uint64_t index = static_cast<uint64_t>(object->id) & ((1u << kIndexBits) - 1);
    if (index < slots_.size() && slots_[index].object == object) {
      slots_[index].object = nullptr;
      free_.push_back(static_cast<uint32_t>(index));
    }
  }

  template <typename F>
  void each(F&& f) const {
    for (const Slot& slot : slots_)
      if (slot.object) f(slot.object);
  }

 private:
  static constexpr unsigned kIndexBits = 22;
  struct Slot {
    uint32_t generation;
    Object* object;
  };
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
};

}  // namespace lowrank
