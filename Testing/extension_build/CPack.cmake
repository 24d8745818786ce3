record(packaged ${CMAKE_CURRENT_SOURCE_DIR})
