"""The ROS 2 nodes of Tailwire: they convert and publish; all thinking is in `tailwire`."""
