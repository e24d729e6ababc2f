# What an installed package has beside the libraries: headers, find_package, pkg-config.
include(CMakePackageConfigHelpers)

install(FILES include/effbert.h include/effbert.hpp DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/effbert)
install(EXPORT effbert FILE effbert-targets.cmake NAMESPACE effbert:: DESTINATION ${package})
configure_package_config_file(cmake/effbert-config.cmake.in effbert-config.cmake
                              INSTALL_DESTINATION ${package})
write_basic_package_version_file(effbert-config-version.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/effbert-config.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/effbert-config-version.cmake DESTINATION ${package})

configure_file(cmake/effbert.pc.in effbert.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/effbert.pc
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
