// One function per file of bindings; addon.cc calls them all.
#pragma once

#include <napi.h>

namespace slimtune {

void defineDispatch(Napi::Object& exports);
void defineTensors(Napi::Object& exports);
void defineAutograd(Napi::Object& exports);
void defineRandom(Napi::Object& exports);
void defineFiles(Napi::Object& exports);
void definePaging(Napi::Object& exports);
void defineProfiler(Napi::Object& exports);
void defineCpuAllocator(Napi::Object& exports);
void defineSystem(Napi::Object& exports);

}  // namespace slimtune
