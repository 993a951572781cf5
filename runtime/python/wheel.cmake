# The wheel (pyproject.toml) carries libvitrun.so inside the package: one file, since a wheel has no links, with the C++
# runtime in it, so that neither a conda environment's libstdc++ nor another package's meets it.
if(SKBUILD)
  set_property(TARGET vitrun_shared PROPERTY VERSION)
  set_property(TARGET vitrun_shared PROPERTY SOVERSION)
  target_link_options(vitrun_shared PRIVATE -static-libstdc++ -static-libgcc)
  install(TARGETS vitrun_shared LIBRARY DESTINATION vitrun COMPONENT python)
endif()
