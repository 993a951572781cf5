# Each ISA file is compiled for its ISA; all other code is compiled for any CPU of the family. A file
# of another architecture compiles to nothing.
set(kernel_common_flags -fno-math-errno -fno-stack-protector)
set_source_files_properties(${kernel_sources} PROPERTIES COMPILE_OPTIONS "${kernel_common_flags}")

function(vitrun_isa file)
  set_source_files_properties(${CMAKE_SOURCE_DIR}/kernels/${file} PROPERTIES
    COMPILE_OPTIONS "${kernel_common_flags};${ARGN}")
endfunction()

# The scalar table is the specification and need not be fast: -O3 would only unroll it.
vitrun_isa(shared/scalar.cc -O2)
# The registry runs once per process.
vitrun_isa(registry.cc -Os)
set(tile_flags -O3)
set(avx512_flags -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # These two passes reorder a tile's multiply-adds until its sums no longer fit the registers.
  list(APPEND tile_flags -fno-tree-pre -fno-tree-reassoc)
  # GCC 12 warns about its own undefined-value intrinsics (bug 105593).
  list(APPEND avx512_flags -Wno-uninitialized -Wno-maybe-uninitialized)
endif()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  vitrun_isa(x86/amx.cc ${tile_flags} ${avx512_flags} -mamx-tile -mamx-int8)
  vitrun_isa(x86/avx512vnni.cc ${tile_flags} ${avx512_flags} -mavx512vnni)
  vitrun_isa(x86/avxvnni.cc ${tile_flags} -mavx2 -mfma -mavxvnni)
  vitrun_isa(x86/avx512.cc ${tile_flags} ${avx512_flags})
  vitrun_isa(x86/avx2.cc ${tile_flags} -mavx2 -mfma)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  # GCC's scheduler loads all weights of a step first and spills sums for them (bench/arm-estimate
  # shows it). neon.cc is scheduled nevertheless, for in-order cores such as the Cortex-A55.
  set(dot_flags ${tile_flags})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    list(APPEND dot_flags -fno-schedule-insns)
  endif()
  vitrun_isa(arm/neoni8mm.cc ${dot_flags} -march=armv8.2-a+dotprod+i8mm)
  vitrun_isa(arm/neondot.cc ${dot_flags} -march=armv8.2-a+dotprod)
  vitrun_isa(arm/neon.cc ${tile_flags})
endif()
