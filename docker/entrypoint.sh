#!/usr/bin/env bash
# Sources ROS, builds engines that the volume lacks, and starts what it is given.
# `entrypoint.sh health` asks the running node whether it lives.
set -eo pipefail
# ROS's own files use variables that are not set.
# shellcheck disable=SC1090,SC1091
source "${ROS_ROOT:-/opt/ros}/${ROS_DISTRO:?the image sets it}/setup.bash"
# shellcheck disable=SC1091
source "${TAILWIRE_ROS:-/opt/tailwire_ros}/setup.bash"
set -u

if [[ "${1:-}" == health ]]; then
  # The node answers only when it is configured; one that hangs does not.
  [[ "$(timeout 8 ros2 lifecycle get /tailwire 2>/dev/null)" == active* ]]
  exit
fi

if [[ -f "${TAILWIRE_EXPORT:-}/export.json" ]]; then
  # Engines belong to this device and this TensorRT; those that are there already cost nothing. Where
  # none can be built, the node runs on the CPU: slower, but it answers.
  status=0
  tailwire build "$TAILWIRE_EXPORT" || status=$?
  # 1: the device cannot take some graphs, which go on on the CPU one by one.
  if ((status <= 1)); then
    export TAILWIRE_BACKEND="${TAILWIRE_BACKEND:-tensorrt}" TAILWIRE_ENGINES="$TAILWIRE_EXPORT"
  else
    echo "no engines of TensorRT: going on with the CPU" >&2
  fi
else
  echo "no export in ${TAILWIRE_EXPORT:-\$TAILWIRE_EXPORT}: going on with the CPU" >&2
fi
exec "$@"
