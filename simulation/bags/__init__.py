"""ROS 2 bags of drives, written and read without ROS."""
