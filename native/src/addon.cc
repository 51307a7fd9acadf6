#include "bindings.h"
#include "engine.h"

namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new slimtune::Engine(env));
  slimtune::defineDispatch(exports);
  slimtune::defineTensors(exports);
  slimtune::defineAutograd(exports);
  slimtune::defineRandom(exports);
  slimtune::defineFiles(exports);
  slimtune::definePaging(exports);
  slimtune::defineSystem(exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(slimtune, init)
