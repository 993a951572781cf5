# libvitrun.so and libvitrun.a: the inference library behind the C ABI, with no other symbol visible.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

add_library(vitrun_shared SHARED)
set_target_properties(vitrun_shared PROPERTIES OUTPUT_NAME vitrun EXPORT_NAME vitrun LINKER_LANGUAGE CXX
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}
  LINK_DEPENDS ${CMAKE_SOURCE_DIR}/runtime/api/vitrun.map)
target_sources(vitrun_shared PRIVATE $<TARGET_OBJECTS:vitrun_core>)
target_link_libraries(vitrun_shared PRIVATE Threads::Threads ${UTF8PROC_LIBRARY})
target_link_options(vitrun_shared PRIVATE -Wl,--version-script=${CMAKE_SOURCE_DIR}/runtime/api/vitrun.map
  -Wl,--gc-sections -Wl,--no-undefined)
target_include_directories(vitrun_shared INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)

# The archive is one object whose other symbols are local: it cannot clash with the program's.
set(archive ${CMAKE_BINARY_DIR}/libvitrun.a)
add_custom_command(OUTPUT ${archive}
  COMMAND ${CMAKE_LINKER} -r --force-group-allocation --unique=.rodata --unique=.text --gc-sections -u vit_model_open --gc-keep-exported
    --whole-archive $<TARGET_FILE:vitrun_core> --no-whole-archive ${UTF8PROC_LIBRARY} -o vitrun_all.o
  COMMAND ${CMAKE_OBJCOPY} --wildcard --keep-global-symbol=vit_* vitrun_all.o
  COMMAND ${CMAKE_COMMAND} -E rm -f ${archive}
  COMMAND ${CMAKE_AR} rcs ${archive} vitrun_all.o
  DEPENDS vitrun_core VERBATIM)
add_custom_target(vitrun_archive ALL DEPENDS ${archive})

# Relative to itself, so that the installed tree may be moved.
file(RELATIVE_PATH VITRUN_PC_PREFIX /p/${CMAKE_INSTALL_LIBDIR}/pkgconfig /p)
configure_file(runtime/api/vitrun.pc.in vitrun.pc @ONLY)
configure_file(runtime/api/vitrunConfig.cmake.in vitrunConfig.cmake COPYONLY)
# While the major version is 0, each minor version may break what the one before promised.
write_basic_package_version_file(${CMAKE_BINARY_DIR}/vitrunConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(TARGETS vitrun_shared EXPORT vitrun LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library
  NAMELINK_COMPONENT development)
install(FILES ${archive} DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
install(FILES runtime/api/vitrun.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development)
install(FILES ${CMAKE_BINARY_DIR}/vitrun.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
install(EXPORT vitrun NAMESPACE vitrun:: FILE vitrunTargets.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/vitrun COMPONENT development)
install(FILES ${CMAKE_BINARY_DIR}/vitrunConfig.cmake ${CMAKE_BINARY_DIR}/vitrunConfigVersion.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/vitrun COMPONENT development)
