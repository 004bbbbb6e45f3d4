# `cpack` makes one Debian package of what is installed, in a build that was configured with SLUICE_PACKAGE
# (`./run.sh package`). One, not three (programs, library, header): they are of one version, and what of it a machine does
# not need is small.
set(SLUICE_MAINTAINER "Sluice developers <sluice@example.org>" CACHE STRING "The package's Maintainer: name and address")
set(debian ${CMAKE_SOURCE_DIR}/packaging/debian)
set(made ${CMAKE_BINARY_DIR}/debian)

# The day of the last commit, so that the same sources make the same package; of today, without git.
execute_process(COMMAND git -C ${CMAKE_SOURCE_DIR} log -1 --format=%cD OUTPUT_VARIABLE SLUICE_DATE
    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT SLUICE_DATE)
    execute_process(COMMAND date -R OUTPUT_VARIABLE SLUICE_DATE OUTPUT_STRIP_TRAILING_WHITESPACE)
endif()
configure_file(${debian}/shlibs.in ${made}/shlibs @ONLY)
configure_file(${debian}/changelog.in ${made}/changelog @ONLY)

install(FILES ${made}/changelog ${debian}/copyright DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES ${CMAKE_SOURCE_DIR}/packaging/prometheus/sluice.rules.yml ${CMAKE_SOURCE_DIR}/packaging/grafana/sluice.json
    DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)
install(FILES ${debian}/lintian-overrides DESTINATION ${CMAKE_INSTALL_DATADIR}/lintian/overrides RENAME sluice)
# Every option as a comment. A target's URL may hold a password.
install(FILES ${CMAKE_SOURCE_DIR}/packaging/systemd/scheduler.env ${CMAKE_SOURCE_DIR}/packaging/systemd/gateway.env
    DESTINATION /etc/sluice PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ)

set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON) # not the tests, too: `shipped` is built before
set(CPACK_GENERATOR DEB)
set(CPACK_SET_DESTDIR ON) # for /etc
set(CPACK_INSTALL_PREFIX ${CMAKE_INSTALL_PREFIX})
set(CPACK_STRIP_FILES ON)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_SOURCE_DIR}/packaging/debian/finish.cmake)
set(CPACK_PACKAGE_NAME sluice)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "hands lists of IDs to a target, by urgency and at a bounded rate")
set(CPACK_PACKAGE_DESCRIPTION
    "A gateway takes lists of IDs over HTTP, a scheduler stores them and hands them\n\
to a target in batches, the urgent ones first, never faster than allowed.\n\
Both are services of systemd. A command line, a client library for C with its\n\
header, rules for Prometheus and a dashboard for Grafana come with them.")
set(CPACK_PACKAGE_CONTACT "${SLUICE_MAINTAINER}")
set(CPACK_DEBIAN_PACKAGE_MAINTAINER "${SLUICE_MAINTAINER}")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${CMAKE_BINARY_DIR}/lib)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "systemd | systemd-sysusers, init-system-helpers (>= 1.54)")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
file(WRITE ${made}/conffiles "/etc/sluice/scheduler.env\n/etc/sluice/gateway.env\n")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${debian}/postinst ${debian}/prerm ${debian}/postrm ${debian}/triggers
    ${made}/shlibs ${made}/conffiles)
include(CPack)
