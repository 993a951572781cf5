# Each ISA file is compiled for its ISA and nothing else is: common code runs on any CPU of the family.
# A file of another architecture compiles to nothing. Row-wise kernels need no errno from sqrt.
set(kernel_common_flags -fno-math-errno)
file(GLOB kernel_files ${CMAKE_SOURCE_DIR}/kernels/*.cc)
set_source_files_properties(${kernel_files} PROPERTIES COMPILE_OPTIONS "${kernel_common_flags}")

function(vitrun_isa file)
  set_source_files_properties(${CMAKE_SOURCE_DIR}/kernels/${file} PROPERTIES
    COMPILE_OPTIONS "${kernel_common_flags};${ARGN}")
endfunction()

# GCC 12 warns about its own undefined-value intrinsics (bug 105593), hence the two -Wno-.
set(avx512_flags -O3 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -Wno-uninitialized
  -Wno-maybe-uninitialized)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  vitrun_isa(avx512vnni.cc ${avx512_flags} -mavx512vnni)
  vitrun_isa(avx2.cc -O3 -mavx2 -mfma)
endif()
