#include "runtime/integer/plain/plain.h"

namespace vitrun {

void run_plain(const PlainCall& call) {
  switch (call.node.kind) {
#define VITRUN_PLAIN(kind, function, by_rows) \
  case NodeKind::k##kind:                     \
    return run_##function(call);
#include "models/graph/kinds.def"
    default:
      break;
  }
}

}  // namespace vitrun
